"""The librarian's entry point: it finds its own modules and speaks ACP on stdin and stdout, nothing else."""

import sys

# The package may be read-only and its digest is part of a trust decision: compiled modules go to our state directory.
# (-B in the command line does the same for this file, which Python compiles before it runs.)
sys.dont_write_bytecode = True
from librarian.places import bytecode_directory  # noqa: E402

sys.pycache_prefix = bytecode_directory()
sys.dont_write_bytecode = False
from librarian.agent import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
