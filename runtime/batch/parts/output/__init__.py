"""What a run leaves behind: the plan, the listing, the parts, and how they are written and read."""
