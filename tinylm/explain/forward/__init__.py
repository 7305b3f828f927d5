"""Forward passes written out step by step, so that every activation in them can be read and changed."""
