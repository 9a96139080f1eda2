"""Deploy a head: ``python tools/deploy.py CONFIG CHECKPOINT [--head main|branch1|..|ensemble]``."""

from mmkdfuse.deploy import deploy
from mmkdfuse.engine.command_line import Parser, add_changes, run


def main() -> None:
    """Parse the arguments, deploy and print what was saved."""
    parser = Parser(description='Write a plain config and checkpoint of one head')
    parser.add_argument('config', help='config file of the trained model')
    parser.add_argument('checkpoint', help='checkpoint file of the trained model')
    parser.add_argument('--head', default='main', help='main, branch1, branch2, .. or ensemble')
    parser.add_argument(
        '--fold', action='store_true', help='fold batch norms, merge parallel projectors'
    )
    parser.add_argument('--out', help='folder of the two files; default: beside the checkpoint')
    parser.add_argument(
        '--seconds', type=float, default=1.0, help='how long to time each network, 0 for not at all'
    )
    parser.add_argument('--device', default='cpu', help='where to time the networks')
    add_changes(parser)
    args = parser.parse_args()
    deployed = deploy(
        args.config,
        args.checkpoint,
        args.head,
        fold=args.fold,
        out=args.out,
        seconds=args.seconds,
        device=args.device,
        cfg_options=args.cfg_options,
    )
    print(deployed)


if __name__ == '__main__':
    run(main)
