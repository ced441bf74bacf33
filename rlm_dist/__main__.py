"""``python -m rlm_dist`` runs the command ``rlm-dist``."""

from rlm_dist.cli import main

if __name__ == "__main__":
    main()
