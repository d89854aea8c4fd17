"""geolib from a shell: the same things, one command each."""

import contextlib
import json
import logging
import shlex
import sys
import tempfile
import time
from pathlib import Path

import click

from geolib import __version__
from geolib.checks import LINES
from geolib.dimension.rules import RULES, check_eps, column

# Subcommands import what they need when they run: `geolib --help` must not wait for torch.


def main(arguments=None) -> None:
    """Run the command line. Exit codes: 0, 1 failed, 2 usage, 130 interrupted."""
    # geolib's own log alone: the libraries below it bring handlers of their own, and would be heard twice.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("geolib").handlers = [handler]
    logging.getLogger("geolib.progress").setLevel(logging.INFO)  # long work says how far it is, where no bar does
    try:
        group.main(_one_each(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("geolib: interrupted", err=True)
        sys.exit(130)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError) as error:
        # Ours are one line; others', such as torch's when a GPU's memory runs out, are made one.
        click.echo(f"geolib: {' '.join(str(error).split()) or type(error).__name__}", err=True)
        sys.exit(1)


def _one_each(words):
    """Put the flag of a repeatable option before each of its values: ``--eps 0.1 0.05``, or ``--eps 0.1,0.05``."""
    many = {flag for one in group.commands.values() for option in one.params if option.multiple for flag in option.opts}
    spread, flag = [], None
    for word in words:
        name, _, values = word.partition("=")
        if word.startswith("-"):
            flag = name if name in many else None
        if flag in (None, word):
            spread.append(word)
        else:
            for value in (values if name == flag else word).split(","):
                spread += [value] if spread[-1] == flag else [flag, value]
    return spread


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geolib")
def group():
    """Measure the geometry of reasoning in language models (companion to arXiv 2407.02678)."""


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_model = click.option(
    "--model", default="smollm2-135m", show_default=True, help="Embedded model, hub id, or folder of a causal LM."
)
_questions = click.option(
    "--questions",
    "path",
    type=click.Path(path_type=Path),
    help="JSON lines of question and answer: at least as many as -n and the largest of --shots together.",
)
_FROM_1, _FROM_0 = click.IntRange(min=1), click.IntRange(min=0)
_max_new_tokens = click.option("--max-new-tokens", type=_FROM_1, default=256, show_default=True, help="Longest answer.")
_batch_size = click.option("--batch-size", type=_FROM_1, help="Prompts at once; by default as many as fit into memory.")


_rules = click.Choice(RULES)
_rules.choices = RULES  # click copies what it is given, and would not see an entry that is added


@group.command()
@_model
@click.option("--text", help="The prompt.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Prompts: a .jsonl (or .jsonlines, .ndjson, .json) holds one a line, {"text": "...", "id": ...} (or "prompt", '
    'or "question"); any other file is one prompt.',
)
@click.option(
    "--eps", type=float, multiple=True, default=(0.1,), show_default=True, help="Threshold, or several: 0.1 0.05."
)
@click.option(
    "--rule",
    type=_rules,
    multiple=True,
    default=("absolute",),
    show_default=True,
    help="; ".join(f"{name}: {getattr(rule, 'says', 'one that was added')}" for name, rule in RULES.items())
    + ". Several are one pass too.",
)
@click.option(
    "--tokens",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="The last token, or all: for a .jsonl their mean.",
)
@click.option("--statistics", is_flag=True, help="Sink's share, entropy, effective support and mass above eps too.")
@click.option("--chat", is_flag=True, help="Put each prompt into the model's chat template, as the user's turn.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file, one row a prompt; for a .jsonl by default beside it, named *.dimension.parquet. Finished "
    "batches are kept in a folder beside it, named *.parts: a run that was stopped goes on from there. When "
    "nothing more is to be measured, the folder may be deleted.",
)
@click.option("--per-head", is_flag=True, help="In the Parquet file, everything head by head too.")
@click.option("--per-token", is_flag=True, help="In the Parquet file, everything token by token too (--tokens all).")
@click.option(
    "--batch-tokens", type=int, default=2048, show_default=True, help="The most tokens at once: memory goes with it."
)
@_json
def dimension(model, text, path, eps, rule, tokens, statistics, chat, out, per_head, per_token, batch_tokens, as_json):
    """ID_eps per layer of a prompt or of a file of prompts: attention entries above eps, over all heads (eq. 8)."""
    if (text is None) == (path is None):
        raise click.UsageError("give either --text or --file")
    start, many = time.perf_counter(), path is not None and path.suffix.lower() in LINES
    if out is None and many:
        out = path.with_suffix(".dimension.parquet")
    if out is None and (per_head or per_token):
        raise click.UsageError("--per-head and --per-token go into a Parquet file: give --out")
    check_eps("dimension", eps, distinct=True)
    held = {} if out is None else _check_out(out)
    import pandas as pd

    from geolib import models
    from geolib.dimension import encode_prompts, measure_prompts, read_prompts
    from geolib.store import write_parquet

    prompts = pd.DataFrame({"text": [text]}, dtype=object) if path is None else read_prompts(path)
    loaded, tokenizer = models.load(model)
    frame = measure_prompts(
        loaded,
        encode_prompts(tokenizer, prompts.text, chat=chat),
        eps=eps,
        rule=rule,
        tokens=tokens,
        statistics=statistics,
        per_head=per_head,
        per_token=per_token or (tokens == "all" and not many),
        batch_tokens=batch_tokens,
        store=out and out.with_name(f"{out.name}.parts"),
        progress=sys.stderr.isatty(),
    )
    if "id" in prompts:
        frame.insert(1, "id", prompts.id.to_numpy())
    if differs := [name for name in ("model", "eps", "rule", "tokens") if held and held[name] != frame.attrs[name]]:
        text = "%s held rows of another %s: they are replaced, and what was measured stays in %s.parts"
        logging.getLogger("geolib").warning(text, out, differs[0], out)
    if out is not None:
        write_parquet(frame, out)
    _report_dimension(frame, model, many, out, time.perf_counter() - start, as_json)


def _check_out(path) -> dict:
    """Refuse a place that cannot be written, and a file that this command did not make; return how one was made."""
    import pandas as pd

    if not path.parent.is_dir():
        raise ValueError(f"dimension: out is {str(path)!r}, but there is no folder {str(path.parent)!r}")
    held = {}
    if path.exists() and path.stat().st_size:
        with contextlib.suppress(Exception):  # no Parquet at all: pyarrow raises of every kind
            held = pd.read_parquet(path, columns=[]).attrs
        if not {"geolib", "model"} <= held.keys():
            raise ValueError(f"dimension: out is {str(path)!r}, which holds something else; expected a new file")
    return held


def _report_dimension(frame, model, many, out, seconds, as_json):
    """Print what was measured of one prompt, or the means over many."""
    import numpy as np

    eps, rules, tokens = (frame.attrs[name] for name in ("eps", "rule", "tokens"))
    n_tokens, shown = int(frame.n_tokens.sum()), rules if len(rules) > 1 else rules[0]
    statistics = [name for name in ("sink_share", "entropy", "effective_support") if name in frame]

    def mean(name):
        return np.mean(np.stack(frame[name]), axis=0)

    def values(name):
        if many:
            return mean(name).tolist()
        return frame[f"{name}_tokens" if tokens == "all" else name][0].tolist()

    def by_threshold(kind):
        nested = {rule: {f"{e:g}": values(column(rule, e, kind)) for e in eps} for rule in rules}
        return nested if len(rules) > 1 else nested[rules[0]]

    if as_json:
        report = {"model": model, "n_tokens": n_tokens, "eps": eps, "rule": shown, "tokens": tokens}
        report["per_layer"] = by_threshold("id")
        if statistics:
            report |= {"mass_above": by_threshold("mass_above")} | {name: values(name) for name in statistics}
        if many:
            report |= {"n_prompts": len(frame), "seconds": round(seconds, 3)}
        if out is not None:
            report["out"] = str(out)
        click.echo(json.dumps(report))
        return
    columns = {f"{f'{rule} ' * (len(rules) > 1)}eps={e:g}": mean(column(rule, e)) for rule in rules for e in eps}
    columns |= {name: mean(name) for name in statistics}
    what = f"{len(frame)} prompts, {n_tokens} tokens" if many else f"{n_tokens} tokens"
    where = "last token" if tokens == "last" else "mean over tokens"
    click.echo(f"{model}, {what}, {' and '.join(rules)} rule: ID at the {where}, summed over heads")
    widths = [max(12, len(name) + 2) for name in columns]
    click.echo("layer" + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True)))
    for layer, row in enumerate(zip(*columns.values(), strict=True), start=1):
        click.echo(f"{layer:5d}" + "".join(f"{value:{width}.4g}" for value, width in zip(row, widths, strict=True)))
    if out is not None:
        click.echo(f"{len(frame)} row{'s' * (len(frame) > 1)} in {out}")


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
@_questions
@click.option("-n", "n_questions", type=_FROM_1, help="Number of questions; by default 48, and with --run all.")
@click.option("--shots", type=_FROM_0, multiple=True, default=(0, 1, 3, 5), show_default=True, help="As in 0 1 3.")
@click.option("--only-wrong", is_flag=True, help="After 0 shots, go on with the questions answered wrong.")
@click.option(
    "--run",
    "names",
    multiple=True,
    help="Runs of the book, at its scale, in place of all the above: bare, shots, ablations, ...; OUT then gets a "
    "Parquet file and a manifest of each, without text. Those that show examples need 50 questions (many: 80, "
    "other-sets: 100).",
)
@_max_new_tokens
@_batch_size
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results; resumable.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of finished batches; by default OUT/batches.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who answers: this process, or workers of the Ray cluster at RAY_ADDRESS; without one, of one started here.",
)
@click.option(
    "--workers", type=_FROM_1, help="Of Ray: how many; by default one a GPU, or as many as there are cores for."
)
@click.option("--threads", type=_FROM_1, help="Of Ray: cores of each worker; by default 1.")
@_json
def sweep(
    model, path, n_questions, shots, only_wrong, names, out, store, engine, workers, threads, as_json, **settings
):
    """Ask questions under several numbers of examples; record ID per layer and the verdict."""
    if engine == "local" and not (workers is threads is None):
        raise click.UsageError("--workers and --threads are for --engine ray")
    asked = click.get_current_context().get_parameter_source
    if names and "COMMANDLINE" in (asked("shots").name, asked("only_wrong").name):
        raise click.UsageError("--shots and --only-wrong are not for --run, which sets them")
    from geolib.experiments.names import check_run
    from geolib.reasoning import available_questions, load_questions, split

    available, source = available_questions(path)
    drawn = None if names else _draw("sweep", available, n_questions, 48, shots)
    for name in names:
        check_run(name, available, split(available))
    train = load_questions(source="gsm8k-train") if "chain" in names else ()
    for name, place in (("out", out), ("store", store or out)):
        if place.exists() and not place.is_dir():
            raise ValueError(f"sweep: {name} is {str(place)!r}, which is a file, but a folder was expected")
    from geolib import models

    settings |= {"store": store or out / "batches", "progress": sys.stderr.isatty()}
    with contextlib.ExitStack() as stack:
        if engine == "ray":
            from geolib.experiments.cluster import Cluster

            settings["engine"] = stack.enter_context(Cluster(model, workers=workers, threads=threads or 1))
        loaded = models.load(model, device="cpu" if engine == "ray" else None)
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # rather now than after hours
        if names:
            settings |= {"n_asked": n_questions, "train": train}
            _run_and_publish(names, loaded, available, source, out, settings, as_json)
        else:
            settings |= {"shots": shots, "only_wrong": only_wrong}
            _sweep_once(loaded, available, source, drawn, out, settings, as_json)


def _draw(command, available, n_questions, usual, shots):
    """Draw questions to ask and examples to show; by default as many as usual, or as there are."""
    from geolib.reasoning import exploration_split

    if len(set(shots)) < len(shots):
        raise ValueError(f"{command}: shots is {shots}, but distinct numbers were expected (--shots)")
    most = max(shots, default=0)
    n_questions = n_questions or max(1, min(usual, len(available) - most))
    try:
        return exploration_split(available, n_questions, n_examples=most)
    except ValueError as error:
        reason = str(error).removeprefix("exploration_split: ")
        raise ValueError(f"{command}: with -n {n_questions} and --shots {most}, {reason} (--questions)") from None


def _command() -> str:
    """Write the command as it was given, without what is no part of its result, and no place on this machine."""
    context, words = click.get_current_context(), []
    for parameter in context.command.params:
        given, name = context.params[parameter.name], parameter.name
        if context.get_parameter_source(name).name != "COMMANDLINE" or name in ("names", "out", "store", "as_json"):
            continue
        words += parameter.opts[-1:]
        if not getattr(parameter, "is_flag", False):
            values = given if parameter.multiple else [given]
            words += [Path(value).name if Path(str(value)).exists() else str(value) for value in values]
    return shlex.join(["geolib", "sweep", *words])


def _sweep_once(loaded, available, source, drawn, out, settings, as_json):
    """Ask some questions, write the rows, and print the shares by number of examples."""
    from geolib.experiments.runs import check_replaces, hashes, manifest_of, write
    from geolib.reasoning import Sweep

    asked, shown = drawn
    kept = {name: settings[name] for name in ("shots", "only_wrong", "max_new_tokens")} | {"n_questions": len(asked)}
    made_by = hashes(loaded[0], available) | {"settings": kept}
    check_replaces(out, "rows", made_by)
    rows = Sweep(model=loaded[0], tokenizer=loaded[1], questions=asked, examples=shown, **settings).run()
    write(rows, manifest_of(rows, "rows", loaded[0], source=source, command=_command(), **made_by), out)
    table = rows.groupby("shots").agg(
        n=("correct", "size"), correct=("correct", "mean"), redundant=("redundant", "mean")
    )
    if as_json:
        report = {"rows": len(rows), "questions": source}
        report |= {name: len(rows.attrs[name]) for name in ("skipped", "failed")}
        click.echo(json.dumps(report | {"by_shots": table.reset_index().to_dict("records")}))
    else:
        click.echo(table.round(3).to_string())
        click.echo(f"{len(rows)} rows of {source} questions in {out / 'rows.parquet'}")


def _run_and_publish(names, loaded, questions, source, out, settings, as_json):
    """Do runs of the book, and write each as it is finished."""
    from geolib.dimension import gate_names
    from geolib.experiments import Runs, publish
    from geolib.experiments.runs import check_replaces

    try:
        gates = gate_names(loaded[0])
    except ValueError:  # no gates that are known: the runs do without
        gates = ()
    runs = Runs(*loaded, questions, gates=gates, **settings)
    hashes = runs.hashes  # of every weight: once
    for name in names:  # before anything is computed
        check_replaces(out, name, hashes | {"settings": runs.settings})
    if "bare" in names:
        check_replaces(out, "questions", {"questions_sha256": hashes["questions_sha256"]})
    for name in names:
        command = f"{_command()} --run {name}"
        manifest = publish(runs.run(name), name, out, runs=runs, source=source, command=command)
        click.echo(json.dumps(manifest) if as_json else f"{name}: {manifest['rows']} rows in {out / name}.parquet")


@group.command()
@_model
@_questions
@click.option("-n", "n_questions", type=_FROM_1, help="Number of questions; by default 24.")
@click.option("--shots", type=_FROM_0, multiple=True, default=(0, 1, 3, 5), show_default=True, help="0 among them.")
@_max_new_tokens
@_batch_size
@click.option("--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of finished batches; by default in the cache.")
@_json
def report(model, path, n_questions, shots, max_new_tokens, batch_size, out, store, as_json):
    """One page about a model: ID by layer, answers by number of examples, the paper's figure."""
    import datetime
    from importlib.metadata import version

    from geolib.reasoning import available_questions

    if 0 not in shots:
        raise ValueError(f"report: shots is {shots}, but 0 was expected among them: changes of ID are against it")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"report: out is {str(out)!r}, but a file in a folder that is there was expected")
    available, source = available_questions(path)
    asked, shown = _draw("report", available, n_questions, 24, shots)
    from geolib import models
    from geolib.experiments.report import report as written
    from geolib.files import write_text
    from geolib.fingerprint import fingerprint
    from geolib.reasoning import Sweep

    loaded, tokenizer = models.load(model)
    rows = Sweep(
        model=loaded,
        tokenizer=tokenizer,
        questions=asked,
        examples=shown,
        shots=shots,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        store=store or models.cache_dir() / "sweeps" / "report",
        progress=sys.stderr.isatty(),
    ).run()
    about = {
        "model": model,
        "questions": source,
        "examples": ", ".join(map(str, sorted(shots))),
        "prompts beyond the window": len(rows.attrs["skipped"]),
        "decoding": f"greedy, at most {max_new_tokens} new tokens",
        "prompts": "chat template" if tokenizer.chat_template else "plain text",
        "weights (SHA-256)": fingerprint(loaded),
        "made": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d} by geolib {__version__}, torch {version('torch')}, "
        f"transformers {version('transformers')}",
    }
    write_text(written(rows, about), out)
    click.echo(json.dumps({"out": str(out), "rows": len(rows)}) if as_json else f"{len(rows)} answers: {out}")


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
