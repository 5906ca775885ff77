"""The proofreader's entry point: it finds its modules and its libraries and speaks ACP on stdin and stdout, nothing else."""

import os
import sys

# The package may be read-only and its digest is part of a trust decision: compiled modules go to our state directory.
# (-B in the command line does the same for this file, which Python compiles before it runs.)
_STATE = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
sys.pycache_prefix = os.path.join(os.environ.get("OPAGENT_STATE") or os.path.join(_STATE, "opagent-proofreader"), "bytecode")
sys.dont_write_bytecode = False
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from proofreader.agent import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
