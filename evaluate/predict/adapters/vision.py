"""torchvision next to a build of torch that it was not made for: its transforms are plain Python and still work."""

from __future__ import annotations

from avem.transformers_ready import UNGUARDED as UNGUARDED
from avem.transformers_ready import ready_torchvision as ready_torchvision
