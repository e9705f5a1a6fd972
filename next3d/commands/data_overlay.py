"""`next3d data overlay`: what tracking finds in one photo, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.params import EXISTING_FILE, OutputFile
from next3d.commands.flame import flame_option


@click.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--out", type=OutputFile(".png", ".jpg"), required=True, help="Picture to write, .png or .jpg.")
@click.option("--faces", type=click.Choice(["largest", "all"]), default="all", show_default=True, help="Which faces.")
@click.option("--head", default="procedural", show_default=True, help="Head model: procedural, flame, or FLAME's folder or .pkl file.")
@click.option("--detector", type=EXISTING_FILE, default=None, help="A face landmarker of MediaPipe's task API (.task).")
@click.option("--plain", is_flag=True, help="Without the figures in words.")
@flame_option
def overlay(photo: Path, out: Path, faces: str, head: str, detector: Path | None, plain: bool) -> None:
    """Draw the fitted head, landmarks, gaze and crop on PHOTO.

    Blue: the fitted head; light blue: its outline, lids, lips, brows and irises; yellow: the detector's points; red: its irises, and gaze.
    Small faces are enlarged together with their photo.

    \b
    Example:
      next3d data overlay photo.jpg --out overlay.png
    """
    from next3d.tracking.face_mesh import DetectorSettings
    from next3d.tracking.overlay import OverlayStyle
    from next3d.tracking.pipeline import shared_head
    from next3d.tracking.preview import write_overlay

    lines = write_overlay(
        photo,
        out,
        shared_head(head),
        faces="all" if faces == "all" else "largest",
        detector=DetectorSettings(every=faces == "all", task=detector),
        style=OverlayStyle(legend=not plain),
    )
    for number, legend in enumerate(lines, start=1):
        click.echo(f"face {number}: {', '.join(legend)}")
    click.echo(f"{out}: {len(lines)} {'face' if len(lines) == 1 else 'faces'}.")
