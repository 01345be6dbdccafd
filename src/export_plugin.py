"""Copy MambaRec into an MMRec checkout: `python export_plugin.py /path/to/MMRec`."""

import sys

if __name__ == "__main__":
    from mambarec.base.environment import check_environment

    check_environment()
    from mambarec.mmrec.export import main

    sys.exit(main(sys.argv[1:]))
