"""The assistant's entry point: it finds its modules and its libraries and speaks ACP on stdin and stdout, nothing else."""

import os
import sys

# The package may be read-only and its digest is part of a trust decision: nothing is compiled into it.
sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from assistant.agent import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
