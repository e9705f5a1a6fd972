"""`python -m next3d` is the `next3d` command."""

from __future__ import annotations

from next3d.commands.main import main

if __name__ == "__main__":
    main()
