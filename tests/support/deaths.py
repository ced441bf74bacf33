"""Planned deaths of workers, each at a named point in the code and for one job."""

from pathlib import Path

from rlm_dist.worker import failpoints


class Deaths:
    """Planned deaths as files for the workers to read: one file a job, one line a death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {failpoints.VARIABLE: f"@{folder}"}

    def plan(self, job_id: str, *points: str) -> None:
        """Let the processes that reach these points with this job die there, one after another."""
        new = self.folder / "new"
        new.write_text("\n".join(points))
        new.rename(self.folder / job_id)

    def outstanding(self, job_id: str) -> bool:
        """Whether a planned death has not happened yet."""
        return (self.folder / job_id).exists()
