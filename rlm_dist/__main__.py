"""``python -m rlm_dist`` runs the command ``rlm-dist``."""

import sys

if __name__ == "__main__":
    # Python has put the current folder first. Its modules are the user's, and may have the names of ours.
    if not sys.flags.safe_path:
        del sys.path[0]
    from rlm_dist.cli import main

    main()
