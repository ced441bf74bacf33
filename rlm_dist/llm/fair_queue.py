"""A queue in which several owners take turns; the items of one owner are first come, first served."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Waiting items, each with an owner."""

    def __init__(self) -> None:
        self._owners: dict[str, deque[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, owner: str, item: T) -> None:
        """Append an item to its owner's; an owner that had none comes after all other owners."""
        self._owners.setdefault(owner, deque()).append(item)
        self._size += 1

    def pop(self) -> T:
        """Take the first item of the owner whose turn it is."""
        owner = next(iter(self._owners))
        items = self._owners.pop(owner)
        item = items.popleft()
        if items:
            self._owners[owner] = items
        self._size -= 1
        return item

    def discard(self, owner: str, item: T) -> None:
        """Remove an item if it is still in the queue."""
        items = self._owners.get(owner)
        if items is None or item not in items:
            return
        items.remove(item)
        self._size -= 1
        if not items:
            del self._owners[owner]

    def of(self, owner: str) -> list[T]:
        """The items of one owner, in order."""
        return list(self._owners.get(owner, ()))

    def __iter__(self) -> Iterator[T]:
        """All items, in the order in which ``pop`` would return them."""
        iterators = [iter(items) for items in self._owners.values()]
        while iterators:
            for items in list(iterators):
                try:
                    yield next(items)
                except StopIteration:
                    iterators.remove(items)
