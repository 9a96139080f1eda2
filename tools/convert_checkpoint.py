"""Turn published weights into a checkpoint of ours: ``IN OUT --arch NETWORK [--key KEY]``."""

from mmkdfuse.engine.command_line import Parser, run
from mmkdfuse.models.networks import network_names
from mmkdfuse.models.reference_weights import convert_file


def main() -> None:
    """Parse the arguments and convert."""
    parser = Parser(description='Convert published weights of a network')
    parser.add_argument('source', metavar='IN', help='published checkpoint')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument(
        '--arch',
        required=True,
        help=f'path of the config of a classifier, or one of {", ".join(network_names())}',
    )
    parser.add_argument('--key', help='where the weights are in IN, such as state_dict_ema')
    args = parser.parse_args()
    convert_file(dict(file=args.source, key=args.key), args.target, args.arch)


if __name__ == '__main__':
    run(main)
