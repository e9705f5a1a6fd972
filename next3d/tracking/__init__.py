"""Photos and videos in: faces, cameras, heads, gaze and crops (docs/tracking.md)."""
