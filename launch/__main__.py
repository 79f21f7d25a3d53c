"""`python -m launch`."""

import sys

from launch.main import main

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
