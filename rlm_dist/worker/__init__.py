"""What root and sub workers share: their process, its threads, accounts, and what happens at start."""
