"""Copy MambaRec into an MMRec checkout: `python export_plugin.py /path/to/MMRec`."""

import sys

if __name__ == "__main__":
    from mambarec.mmrec.export import main

    sys.exit(main(sys.argv[1:]))
