"""`make figures`: the numbers of docs/figures.md, each measured by the file of its name and written by `__main__`."""
