"""``python -m stylewire``: the command line where its script is not on the path."""

from stylewire.cli.main import main

if __name__ == "__main__":
    main()
