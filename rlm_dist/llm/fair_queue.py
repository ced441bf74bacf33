"""A queue in which several owners take turns: first come, first served holds among the items of one owner."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items that wait, each for an owner."""

    def __init__(self) -> None:
        self._owners: dict[str, deque[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, owner: str, item: T) -> None:
        """Put an item last among those of its owner; an owner that had none comes last among the owners."""
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
        """Take an item out, where it is still there."""
        items = self._owners.get(owner)
        if items is None or item not in items:
            return
        items.remove(item)
        self._size -= 1
        if not items:
            del self._owners[owner]

    def of(self, owner: str) -> list[T]:
        """The items of one owner."""
        return list(self._owners.get(owner, ()))

    def __iter__(self) -> Iterator[T]:
        """All items, in the order in which ``pop`` would give them."""
        rest = [iter(items) for items in self._owners.values()]
        while rest:
            for items in list(rest):
                try:
                    yield next(items)
                except StopIteration:
                    rest.remove(items)
