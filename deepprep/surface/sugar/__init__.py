"""SUGAR: spherical registration by a graph-attention U-Net (Ren et al., Med. Image Anal. 2024)."""
