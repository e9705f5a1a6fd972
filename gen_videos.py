"""Write videos of generated heads: `python gen_videos.py --help`. The same as `next3d videos`."""

from __future__ import annotations

from next3d.commands.main import main_of

if __name__ == "__main__":
    main_of("next3d.commands.videos:videos", "gen_videos.py")
