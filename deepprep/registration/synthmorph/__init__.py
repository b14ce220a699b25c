"""SynthMorph's networks (Hoffmann et al. 2022, 2024), their arithmetic, and official weights."""
