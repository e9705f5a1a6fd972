"""Train a generator: `python train.py --help`. The same as `next3d train`."""

from __future__ import annotations

from next3d.commands.main import main_of

if __name__ == "__main__":
    main_of("next3d.commands.train:train", "train.py")
