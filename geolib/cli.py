"""geolib from a shell: the same things, one command each."""

import json
import logging
import sys
from pathlib import Path

import click

from geolib import __version__

# Subcommands import what they need when they run: `geolib --help` must not wait for torch.


def main(arguments=None) -> None:
    """Run the command line. Exit codes: 0, 1 failed, 2 usage, 130 interrupted."""
    # geolib's own log alone: the libraries below it bring handlers of their own, and would be heard twice.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("geolib").handlers = [handler]
    try:
        group.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("geolib: interrupted", err=True)
        sys.exit(130)
    except (ValueError, TypeError, OSError) as error:
        click.echo(f"geolib: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geolib")
def group():
    """Measure the geometry of reasoning in language models (companion to arXiv 2407.02678)."""


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_model = click.option(
    "--model", default="smollm2-135m", show_default=True, help="Embedded model, hub id, or folder of a causal LM."
)


@group.command()
@_model
@click.option("--text", help="The prompt.")
@click.option(
    "--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of the prompt."
)
@click.option("--eps", type=float, multiple=True, default=(0.1,), show_default=True, help="Threshold; repeatable.")
@click.option("--rule", type=click.Choice(["absolute", "relative"]), default="absolute", show_default=True)
@click.option("--tokens", type=click.Choice(["last", "all"]), default="last", show_default=True)
@_json
def dimension(model, text, path, eps, rule, tokens, as_json):
    """ID_eps of a prompt, per layer: attention entries above eps, summed over heads (eq. 8)."""
    if (text is None) == (path is None):
        raise click.UsageError("give either --text or --file")
    from geolib import models
    from geolib.dimension import attention_dimension

    text = path.read_text(encoding="utf-8") if text is None else text
    loaded, tokenizer = models.load(model)
    ids = tokenizer(text, return_tensors="pt").input_ids
    measured = attention_dimension(loaded, ids, eps=eps, rule=rule, tokens=tokens)
    layers = measured.per_layer[:, 0]  # [eps, layers, tokens]
    if as_json:
        values = layers[..., 0] if tokens == "last" else layers
        report = {"model": model, "n_tokens": ids.shape[1], "rule": rule, "tokens": tokens}
        report["per_layer"] = {f"{e:g}": row.tolist() for e, row in zip(eps, values, strict=True)}
        click.echo(json.dumps(report))
        return
    what = "last token" if tokens == "last" else "mean over tokens"
    click.echo(f"{model}, {ids.shape[1]} tokens, {rule} rule: ID at the {what}, summed over heads")
    click.echo("layer" + "".join(f"{f'eps={e:g}':>12}" for e in eps))
    for layer, row in enumerate(layers.mean(-1).T, start=1):
        click.echo(f"{layer:5d}" + "".join(f"{value:12.4g}" for value in row))


@group.command()
@click.option("--neurons", type=int, default=50, show_default=True, help="Neurons of the one hidden layer.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--bias/--no-bias", default=True, show_default=True)
@click.option("--window", type=float, default=1.0, show_default=True, help="The plane is cut to [-window, window]^2.")
@click.option("--line", type=float, nargs=4, metavar="U0 V0 U1 V1", help="Count from (U0, V0) to (U1, V1) too.")
@click.option("--limit", type=int, default=2_000_000, show_default=True, help="The most regions that may be made.")
@click.option("--certify", is_flag=True, help="Count again in rational arithmetic (small networks).")
@_json
def regions(neurons, seed, bias, window, line, limit, certify, as_json):
    """Regions that a random MLP cuts a square into, beside the bound."""
    import numpy as np

    from geolib.partition import ReluNetwork, line_partition, max_regions, plane_partition

    if not 1 <= neurons <= 100_000:
        raise ValueError(f"regions: neurons is {neurons}, but a number from 1 to 100,000 was expected")
    if seed < 0:
        raise ValueError(f"regions: seed is {seed}, but a whole number from 0 on was expected")
    rng = np.random.default_rng(seed)
    weights, biases = rng.standard_normal((neurons, 2)), rng.standard_normal(neurons) * bias
    network, checks = ReluNetwork([weights], [biases]), {"limit": limit, "certify": certify}
    partition = plane_partition(network, ((-window, window), (-window, window)), **checks)
    report = {
        "neurons": neurons,
        "seed": seed,
        "bias": bias,
        "n_regions": partition.n_regions,
        "max_regions": max_regions(neurons, 2, central=not bias),
        "snapped": partition.snapped,
        "certified": certify,
    }
    if line:
        report["n_regions_line"] = line_partition(network, line[:2], line[2:], **checks).n_regions
    if as_json:
        click.echo(json.dumps(report))
    else:
        along = f", {report['n_regions_line']} along the line" if line else ""
        click.echo(
            f"{neurons} neurons, {'random' if bias else 'zero'} biases: {report['n_regions']} regions in the window"
            f"{along}, at most {report['max_regions']} in the plane{' (certified)' if certify else ''}"
        )


@group.command()
@_model
@click.option("--questions", "path", type=click.Path(path_type=Path), help="JSON lines of question and answer.")
@click.option("-n", "n_questions", type=int, default=48, show_default=True, help="Number of questions.")
@click.option("--shots", type=int, multiple=True, default=(0, 1, 3, 5), show_default=True, help="Repeatable.")
@click.option("--only-wrong", is_flag=True, help="After 0 shots, go on with the questions answered wrong.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results; resumable.")
@_json
def sweep(model, path, n_questions, shots, only_wrong, out, as_json):
    """Ask questions under several numbers of examples; record ID per layer and the verdict."""
    from geolib import models
    from geolib.reasoning import Sweep, available_questions, exploration_split
    from geolib.reasoning.sweep import write_parquet

    available, source = available_questions(path)
    asked, shown = exploration_split(available, n_questions, n_examples=max(shots, default=0))
    if out.exists() and not out.is_dir():
        raise ValueError(f"sweep: out is {str(out)!r}, which is a file, but a folder was expected")
    loaded, tokenizer = models.load(model)
    experiment = Sweep(
        model=loaded,
        tokenizer=tokenizer,
        questions=asked,
        examples=shown,
        shots=shots,
        only_wrong=only_wrong,
        store=out / "batches",
        progress=sys.stderr.isatty(),
    )
    rows = experiment.run()
    write_parquet(rows, out / "rows.parquet")
    table = rows.groupby("shots").agg(
        n=("correct", "size"), correct=("correct", "mean"), redundant=("redundant", "mean")
    )
    if as_json:
        report = {"rows": len(rows), "questions": source, "by_shots": table.reset_index().to_dict("records")}
        click.echo(json.dumps(report))
    else:
        click.echo(table.round(3).to_string())
        click.echo(f"{len(rows)} rows of {source} questions in {out / 'rows.parquet'}")


@group.command()
@click.option("--fetch", is_flag=True, help="Fetch and convert the embedded model now.")
@_json
def models(fetch, as_json):
    """Tell where the embedded model is kept; --fetch makes it ready."""
    from geolib import models as registry

    folder = registry.embedded_folder() if fetch else None
    report = {"embedded": registry.EMBEDDED, "sha256": registry.EMBEDDED_SHA256, "cache": str(registry.cache_dir())}
    if folder:
        report["folder"] = str(folder)
    click.echo(json.dumps(report) if as_json else "\n".join(f"{key:9} {value}" for key, value in report.items()))


@group.command()
@click.option("--questions", "path", type=click.Path(path_type=Path), help="A file to check; by default GSM8K-Zero.")
@_json
def data(path, as_json):
    """Tell which questions are used, fetched if need be, and how many there are."""
    from geolib.reasoning import available_questions

    questions, source = available_questions(path)
    report = {"questions": source, "n_questions": len(questions)}
    click.echo(json.dumps(report) if as_json else f"{source}: {len(questions)} questions")
