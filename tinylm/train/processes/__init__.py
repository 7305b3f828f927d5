"""What the processes of one run know of each other besides the numbers that they exchange."""
