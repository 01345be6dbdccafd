"""`python -m mambarec`: the command `mambarec`, also where its folder of programs is not on the PATH."""

import sys

if __name__ == "__main__":
    from mambarec.base.environment import check_environment

    check_environment()
    from mambarec.cli import main

    sys.exit(main())
