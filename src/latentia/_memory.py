"""What the C library does with memory that has been freed."""

from __future__ import annotations

import torch

BLOCK = 31 * 2**20  # bytes, just below what glibc takes into account


def keep_freed_memory() -> None:
    """Let glibc keep up to 62 MiB of freed memory for the next call, where it would hand it back.

    What it hands back costs a page fault for every 4 KiB that are used again, a tenth of the time where
    results of megabytes come and go. It keeps twice the largest block that was freed so far (mallopt(3),
    M_MMAP_THRESHOLD), so a block is allocated here and freed; untouched, it takes no memory and no time.
    It holds for the rest of the process.
    """
    torch.empty(BLOCK, dtype=torch.uint8, device="cpu")
