"""With this folder on the path `import cupy` gives the stand-in, in a process that a test starts."""

import sys

from cuda_on_cpu.stand_in.modules import MODULES

sys.modules.update(MODULES)
