"""What the commands in scripts/ have in common: the command line, tables, figures, and what a person sees of a training run.

Importing it makes a checkout work where tinylm is not installed.
"""

import importlib.util
import sys
from pathlib import Path

found = importlib.util.find_spec("tinylm")
if found is None or found.origin is None:  # nothing, or a folder without code
    sys.path.append(str(Path(__file__).resolve().parents[2]))
