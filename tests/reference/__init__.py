"""The reference numbers of the original networks, computed again by ours: `python -m tests.reference FOLDER`."""
