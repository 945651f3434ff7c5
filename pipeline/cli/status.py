"""`embedpipe status`"""

from pipeline.cli.options import AsJson, Destination, JobFile, output_of
from pipeline.cli.render import render_status
from pipeline.cli.terminal import show, write_json


def status(output: Destination = None, config_file: JobFile = None, as_json: AsJson = False) -> None:
    """Tell what is published, committed and in flight.

    From the store alone: works while a run is going, and after one that died.
    """
    from pipeline.flow.status import read_status

    found = read_status(output_of(output, config_file))
    if as_json:
        write_json(found.to_json())
    else:
        show(render_status(found))
