"""The shell: geolib's main functions, with one command for each."""

import contextlib
import functools
import itertools
import json
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geolib import __version__
from geolib.checks import LINES, integer, whole_text
from geolib.dimension.rules import RULES, check_eps, check_rule, column

# Commands import what they need when they run: `geolib --help` must not wait for torch.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interruption."""
    # Only geolib's own log: the libraries below it have handlers of their own, which would print everything twice.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("geolib").handlers = [handler]
    logging.getLogger("geolib.progress").setLevel(logging.INFO)  # long work reports its progress if there is no bar
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
        # Messages of geolib are one line. Others, such as torch's if a GPU's memory is full, are joined to one.
        click.echo(f"geolib: {' '.join(str(error).split()) or type(error).__name__}", err=True)
        sys.exit(1)


def _one_each(words):
    """Put the flag of a repeatable option before each of its values: ``--eps 0.1 0.05``, or ``--eps 0.1,0.05``.

    What follows an option of one value is that value, even if it looks like a flag: ``--text "--eps=0.1 is small"``.
    """
    options = [option for command in group.commands.values() for option in command.params]
    many = {flag for option in options if option.multiple for flag in option.opts}
    single = {flag for option in options if not option.multiple and not option.is_flag for flag in option.opts}
    spread, flag, bare, words = [], None, True, iter(words)
    for word in words:
        if word in single:
            spread, flag = [*spread, word, *itertools.islice(words, 1)], None
            continue
        name, _, values = word.partition("=")
        if word.startswith("-"):
            flag, bare = name if name in many else None, True  # no value has followed yet
        if flag in (None, word):
            spread.append(word)
        else:
            for value in (values if name == flag else word).split(","):
                spread += [value] if bare and name != flag else [flag, value]
                bare = False
    return spread


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geolib")
def group():
    """Measure the geometry of reasoning in language models (companion to arXiv 2407.02678)."""


def _command(function):
    """Make a command of a function that yields its reports: each is a dict, for --json, and a text."""

    @functools.wraps(function)
    def run(as_json, **given):
        for report, text in function(**given):
            click.echo(json.dumps(report) if as_json else text)

    command = group.command(function.__name__)(run)
    command.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."))
    return command


def _given(name):
    """Whether an option of the running command was given in the shell."""
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


_option = functools.partial(click.option, show_default=True)
_PATH, _FROM_0, _FROM_1 = click.Path(path_type=Path), click.IntRange(min=0), click.IntRange(min=1)
_FILE, _FOLDER = (click.Path(file_okay=file, dir_okay=not file, path_type=Path) for file in (True, False))
_RULES: Any = click.Choice(RULES)
_RULES.choices = RULES  # click copies the choices; with the table itself, rules that are added are choices too
_SAYS = "; ".join(f"{name}: {getattr(rule, 'says', 'a rule that was added')}" for name, rule in RULES.items())
_model = _option("--model", default="smollm2-135m", help="Embedded model, hub id, or folder of a causal LM.")


def _asking(questions, shots):
    """Options of the commands that ask questions; the arguments are parts of their help."""
    options = [
        _model,
        _option("--questions", "path", type=_PATH, help="JSON lines of question and answer, at least -n plus --shots."),
        _option("-n", "n_questions", type=_FROM_1, help=f"Number of questions; by default {questions}."),
        _option("--shots", type=_FROM_0, multiple=True, default=(0, 1, 3, 5), help=f"Numbers of examples{shots}."),
        _option("--max-new-tokens", type=_FROM_1, default=256, help="Longest answer, in tokens."),
        _option("--batch-size", type=_FROM_1, help="Prompts in a batch; by default as many as fit into memory."),
    ]
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


@_command
@_model
@click.option("--text", help="The prompt.")
@click.option("--file", "path", type=click.Path(True, dir_okay=False, path_type=Path), help="File of prompts.")
@_option("--eps", type=float, multiple=True, default=(0.1,), help="Threshold, or several: 0.1 0.05.")
@_option("--rule", type=_RULES, multiple=True, default=("absolute",), help=f"{_SAYS}. Several take one pass too.")
@_option("--tokens", type=click.Choice(["last", "all"]), default="last", help="Last token, or all; of files, means.")
@click.option("--statistics", is_flag=True, help="Sink's share, entropy, effective support and mass above eps too.")
@click.option("--chat", is_flag=True, help="Put each prompt into the model's chat template, as the user's turn.")
@click.option("--out", type=_FILE, help="Parquet file, with a row for each prompt.")
@click.option("--per-head", is_flag=True, help="In the Parquet file, all numbers head by head too.")
@click.option("--per-token", is_flag=True, help="In the Parquet file, all numbers token by token too (--tokens all).")
@_option("--batch-tokens", type=_FROM_1, default=2048, help="Largest number of tokens in a batch, which limits memory.")
def dimension(model, text, path, chat, out, **settings):
    """ID_eps per layer of a prompt or of a file of prompts: attention entries above eps, over all heads (eq. 8).

    Each line of a .jsonl file (or .jsonlines, .ndjson, .json) is a prompt, {"text": "...", "id": ...}; "prompt" or
    "question" may stand for "text". Any other file is one prompt.

    For a .jsonl file, OUT is by default beside it, named *.dimension.parquet. Finished batches are kept in a folder
    beside OUT, named *.parts, so that the same command continues an interrupted one. The folder may be deleted when
    nothing more is to be measured.
    """
    if (text is None) == (path is None) or text == "":
        raise click.UsageError("give either --text, which must not be empty, or --file")
    start, many = time.perf_counter(), path is not None and path.suffix.lower() in LINES
    if out is None and many:
        out = path.with_suffix(".dimension.parquet")
    if out is None and (settings["per_head"] or settings["per_token"]):
        raise click.UsageError("--per-head and --per-token go into a Parquet file: give --out")
    check_eps("dimension", settings["eps"], distinct=True)
    check_rule("dimension", settings["rule"])
    whole_text("dimension: text", text or "")
    held = {} if out is None else _check_out(out)
    import pandas as pd

    from geolib import models
    from geolib.dimension import encode_prompts, measure_prompts, read_prompts
    from geolib.store import write_parquet

    prompts = pd.DataFrame({"text": [text]}, dtype=object) if path is None else read_prompts(path)
    loaded, tokenizer = models.load(model)
    settings |= {"store": out and out.with_name(f"{out.name}.parts"), "progress": sys.stderr.isatty()}
    settings["per_token"] |= settings["tokens"] == "all" and not many
    frame = measure_prompts(loaded, encode_prompts(tokenizer, prompts.text, chat=chat), **settings)
    if "id" in prompts:
        frame.insert(1, "id", prompts.id.to_numpy())
    if differs := [name for name in ("model", "eps", "rule", "tokens") if held and held[name] != frame.attrs[name]]:
        said = "%s held rows of another %s: they are replaced, but the measured rows stay in %s.parts"
        logging.getLogger("geolib").warning(said, out, differs[0], out)
    if out is not None:
        write_parquet(frame, out)
    yield _report_dimension(frame, model, many, out, time.perf_counter() - start)


def _check_out(path):
    """Refuse a path that cannot be written, or a file that this command did not make; return its attributes."""
    import pandas as pd

    if not path.parent.is_dir():
        raise ValueError(f"dimension: out is {str(path)!r}, but there is no folder {str(path.parent)!r}")
    held = {}
    if path.exists() and path.stat().st_size:
        with contextlib.suppress(Exception):  # pyarrow raises errors of many kinds for a file that is not Parquet
            held = pd.read_parquet(path, columns=[]).attrs
        if not {"geolib", "model"} <= held.keys():
            raise ValueError(f"dimension: out is '{path}', which holds something else, but a new file was expected")
    return held


def _report_dimension(frame, model, many, out, seconds):
    """Report what was measured of one prompt, or the means over many: a dict and a table."""
    import numpy as np
    import pandas as pd

    from geolib.dimension.batches import STATISTICS

    eps, rules, tokens = (frame.attrs[name] for name in ("eps", "rule", "tokens"))
    n_tokens, statistics = int(frame.n_tokens.sum()), [name for name in STATISTICS if name in frame]

    def mean(name):
        return np.mean(np.stack(frame[name]), axis=0)

    def values(name):
        return (mean(name) if many else frame[f"{name}_tokens" if tokens == "all" else name][0]).tolist()

    def by_threshold(kind):
        nested = {rule: {f"{e:g}": values(column(rule, e, kind)) for e in eps} for rule in rules}
        return nested if len(rules) > 1 else nested[rules[0]]

    report = {"model": model, "n_tokens": n_tokens, "eps": eps, "rule": rules if len(rules) > 1 else rules[0]}
    report |= {"tokens": tokens, "per_layer": by_threshold("id")}
    if statistics:
        report |= {"mass_above": by_threshold("mass_above")} | {name: values(name) for name in statistics}
    if many:
        report |= {"n_prompts": len(frame), "seconds": round(seconds, 3)}
    what = f"{len(frame)} prompts, {n_tokens} tokens" if many else f"{n_tokens} tokens"
    where = "last token" if tokens == "last" else "mean over tokens"
    columns = {f"{f'{rule} ' * (len(rules) > 1)}eps={e:g}": mean(column(rule, e)) for rule in rules for e in eps}
    table = pd.DataFrame(columns | {name: mean(name) for name in statistics})
    table.insert(0, "layer", table.index + 1)
    text = f"{model}, {what}, {' and '.join(rules)} rule: ID at the {where}, summed over heads\n"
    text += table.to_string(index=False, float_format="{:.4g}".format, col_space=10)
    if out is not None:
        report["out"] = str(out)
        text += f"\n{len(frame)} row{'s' * (len(frame) > 1)} in {out}"
    return report, text


@_command
@_option("--neurons", type=int, default=50, help="Neurons of the one hidden layer.")
@_option("--seed", type=int, default=0, help="Seed of weights and biases.")
@_option("--bias/--no-bias", default=True, help="Random biases, or none.")
@_option("--window", type=float, default=1.0, help="The plane is cut to [-window, window]^2.")
@click.option("--line", type=float, nargs=4, metavar="U0 V0 U1 V1", help="Count from (U0, V0) to (U1, V1) too.")
@_option("--limit", type=int, default=2_000_000, help="Largest number of regions that may be made.")
@click.option("--certify", is_flag=True, help="Count again in rational arithmetic (small networks).")
def regions(neurons, seed, bias, window, line, **checks):
    """Regions into which a random MLP cuts a square, beside the bound."""
    import numpy as np

    from geolib.partition import ReluNetwork, line_partition, max_regions, plane_partition

    integer("regions: neurons", neurons, 1, 100_000)
    rng = np.random.default_rng(integer("regions: seed", seed, 0))
    weights, biases = rng.standard_normal((neurons, 2)), rng.standard_normal(neurons) * bias
    network, most = ReluNetwork([weights], [biases]), max_regions(neurons, 2, central=not bias)
    partition = plane_partition(network, ((-window, window), (-window, window)), **checks)
    report = {"neurons": neurons, "seed": seed, "bias": bias, "n_regions": partition.n_regions, "max_regions": most}
    report |= {"snapped": partition.snapped, "certified": checks["certify"]}
    text = f"{neurons} neurons, {'random' if bias else 'zero'} biases: {partition.n_regions} regions in the window"
    if line:
        along = line_partition(network, line[:2], line[2:], **checks)
        report |= {"n_regions_line": along.n_regions, "snapped_line": along.snapped}
        text += f", {along.n_regions} along the line"
    text += f", at most {most} in the plane{' (certified)' * checks['certify']}"
    if n_doubts := partition.snapped + report.get("snapped_line", 0):
        text += f"; in doubt: {n_doubts} values within rounding of 0 were counted as 0"
    yield report, text


@_command
@_asking("48, and with --run all", ", as in 0 1 3")
@click.option("--only-wrong", is_flag=True, help="After 0 shots, continue with the questions answered wrong.")
@click.option("--run", "names", multiple=True, help="Runs of the book: bare, shots, ablations, ...")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the results; an interrupted sweep continues there.")
@click.option("--store", type=_FOLDER, help="Folder of finished batches; by default OUT/batches.")
@_option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Answer in this process, or by Ray.")
@click.option("--workers", type=_FROM_1, help="Ray workers; by default one per GPU, else one per --threads cores.")
@click.option("--threads", type=_FROM_1, help="Cores of each Ray worker; by default 1.")
def sweep(path, model, n_questions, shots, only_wrong, names, out, store, engine, workers, threads, **settings):
    """Ask questions under several numbers of examples; record ID per layer and the verdict.

    With --run, runs of the book are done at its scale, and OUT gets a Parquet file and a manifest of each, without
    text. Runs that show examples need 50 questions (many: 80, other-sets: 100).

    With --engine ray, workers of the Ray cluster at RAY_ADDRESS answer, or of a cluster that is started here.
    """
    if engine == "local" and not (workers is threads is None):
        raise click.UsageError("--workers and --threads are for --engine ray")
    if names and (_given("shots") or _given("only_wrong")):
        raise click.UsageError("--shots and --only-wrong are not for --run, which sets them")
    from geolib.experiments.names import check_run
    from geolib.reasoning import available_questions, load_questions, split

    available, source = available_questions(path)
    drawn = None if names else _draw("sweep", available, n_questions, 48, shots)
    for name in names:
        check_run(name, available, split(available))
    train = load_questions(source="gsm8k-train") if "chain" in names else ()
    from geolib import models

    settings |= {"store": store or out / "batches", "progress": sys.stderr.isatty()}
    with contextlib.ExitStack() as stack:
        if engine == "ray":
            from geolib.experiments.cluster import Cluster

            settings["engine"] = stack.enter_context(Cluster(model, workers=workers, threads=threads or 1))
        loaded = models.load(model, device="cpu" if engine == "ray" else None)
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # fails now, not after hours, if nothing can be written
        if names:
            settings |= {"n_asked": n_questions, "train": train}
            yield from _publish_runs(names, loaded, available, source, out, settings)
        else:
            settings |= {"shots": shots, "only_wrong": only_wrong}
            yield _sweep_once(loaded, available, source, drawn, out, settings)


def _draw(command, available, n_questions, usual, shots):
    """Draw questions to ask and examples to show; by default the usual number, or as many as there are."""
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


def _as_given():
    """Write the command as it was given, without options that do not change its result, and without folders."""
    context, words = click.get_current_context(), []
    for parameter in context.command.params:
        value, name = context.params[parameter.name], parameter.name
        if not _given(name) or name in ("names", "out", "store", "as_json"):
            continue
        words += parameter.opts[-1:]
        if not getattr(parameter, "is_flag", False):
            values = value if parameter.multiple else [value]
            words += [Path(one).name if Path(str(one)).exists() else str(one) for one in values]
    return shlex.join(["geolib", "sweep", *words])


def _sweep_once(loaded, available, source, drawn, out, settings):
    """Ask some questions, write the rows, and report the shares by number of examples."""
    from geolib.experiments.runs import check_replaces, hashes, manifest_of, write
    from geolib.reasoning import Sweep

    asked, shown = drawn
    kept = {name: settings[name] for name in ("shots", "only_wrong", "max_new_tokens")} | {"n_questions": len(asked)}
    made_by = hashes(loaded[0], available) | {"settings": kept}
    check_replaces(out, "rows", made_by)
    rows = Sweep(model=loaded[0], tokenizer=loaded[1], questions=asked, examples=shown, **settings).run()
    write(rows, manifest_of(rows, "rows", loaded[0], source=source, command=_as_given(), **made_by), out)
    table = rows.groupby("shots").agg(
        n=("correct", "size"), correct=("correct", "mean"), redundant=("redundant", "mean")
    )
    report = {"rows": len(rows), "questions": source}
    report |= {name: len(rows.attrs[name]) for name in ("skipped", "failed")}
    report["by_shots"] = table.reset_index().to_dict("records")
    return report, f"{table.round(3).to_string()}\n{len(rows)} rows of {source} questions in {out / 'rows.parquet'}"


def _publish_runs(names, loaded, questions, source, out, settings):
    """Do runs of the book, and write each one as it is finished."""
    from geolib.dimension import gate_names
    from geolib.experiments.runs import Runs, check_replaces, publish

    gates = ()
    with contextlib.suppress(ValueError):  # a model whose gates are not known is run without them
        gates = gate_names(loaded[0])
    runs = Runs(*loaded, questions, gates=gates, **settings)
    hashes = runs.hashes  # hashing all weights takes long, so it is done once
    for name in names:  # before anything is computed
        check_replaces(out, name, hashes | {"settings": runs.settings_of(name)})
    if "bare" in names:
        check_replaces(out, "questions", {"questions_sha256": hashes["questions_sha256"]})
    for name in names:
        command = f"{_as_given()} --run {name}"
        manifest = publish(runs.run(name), name, out, runs=runs, source=source, command=command)
        yield manifest, f"{name}: {manifest['rows']} rows in {out / name}.parquet"


@_command
@_asking("24", ", with 0 among them")
@_option("--out", type=_PATH, default="report.html", help="File of the page.")
@click.option("--store", type=_FOLDER, help="Folder of finished batches; by default in the cache.")
def report(model, path, n_questions, shots, out, store, **settings):
    """One page about a model: ID by layer, answers by number of examples, the paper's figure."""
    import datetime
    from importlib.metadata import version

    from geolib.reasoning import available_questions

    if 0 not in shots:
        raise ValueError(f"report: shots is {shots}, but 0 was expected among them: changes of ID are against it")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"report: out is {str(out)!r}, but a file in an existing folder was expected")
    available, source = available_questions(path)
    asked, shown = _draw("report", available, n_questions, 24, shots)
    from geolib import models
    from geolib.experiments.report import report as written
    from geolib.files import write_text
    from geolib.fingerprint import fingerprint
    from geolib.reasoning import Sweep

    loaded, tokenizer = models.load(model)
    settings |= {"store": store or models.cache_dir() / "sweeps" / "report", "progress": sys.stderr.isatty()}
    settings |= {"questions": asked, "examples": shown, "shots": shots}
    rows = Sweep(model=loaded, tokenizer=tokenizer, **settings).run()
    about = {
        "model": model,
        "questions": source,
        "examples": ", ".join(map(str, sorted(shots))),
        "prompts beyond the window": len(rows.attrs["skipped"]),
        "decoding": f"greedy, at most {settings['max_new_tokens']} new tokens",
        "prompts": "chat template" if tokenizer.chat_template else "plain text",
        "weights (SHA-256)": fingerprint(loaded),
        "made": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d} by geolib {__version__}, torch {version('torch')}, "
        f"transformers {version('transformers')}",
    }
    write_text(written(rows, about), out)
    yield {"out": str(out), "rows": len(rows)}, f"{len(rows)} answers: {out}"


@_command
@click.option("--fetch", is_flag=True, help="Fetch and convert the embedded model now.")
def models(fetch):
    """Show where the embedded model is kept; --fetch makes it ready."""
    from geolib import models as registry

    report = {"embedded": registry.EMBEDDED, "sha256": registry.EMBEDDED_SHA256, "cache": str(registry.cache_dir())}
    if fetch:
        report["folder"] = str(registry.embedded_folder())
    yield report, "\n".join(f"{key:9} {value}" for key, value in report.items())


@_command
@click.option("--questions", "path", type=_PATH, help="A file to check; by default GSM8K-Zero.")
def data(path):
    """Show which questions are used, fetched if necessary, and how many there are."""
    from geolib.reasoning import available_questions

    questions, source = available_questions(path)
    yield {"questions": source, "n_questions": len(questions)}, f"{source}: {len(questions)} questions"


@_command
@click.option("--train", "folder", type=_FOLDER, metavar="NAME", help="Train a model and write it to this new folder.")
@click.option("--roll", "prompt", metavar="SENTENCE", help="Make a film of a sentence, such as 'a ball falls'.")
@click.option("--model", type=_FOLDER, help="With --roll: folder of a trained model; by default the shipped one.")
@click.option(
    "--grid", type=_FOLDER, metavar="FOLDER", help="The book's window experiment: 30 models, some 5 core hours."
)
@_option("--share", type=int, nargs=2, default=(1, 1), help="With --grid: 1 2 and 2 2 are two processes of one grid.")
@_option("--out", type=_FILE, default="film.html", help="With --roll: file of the film.")
@_option("--shown", type=_FROM_1, default=4, help="With --roll: number of true frames that the model is shown.")
@_option("--seed", type=_FROM_0, default=0, help="Of weights and clips; with --roll, of the start.")
@_option(
    "--speed", type=float, nargs=2, default=(0.012, 0.022), help="Lowest and highest, in sides of the box a frame."
)
@click.option("--window", type=int, help="Number of frames that a token attends to; by default all.")
@_option("--laws", multiple=True, default=("drifts", "bounces", "falls", "collide"), help="Laws to train on.")
@_option("--frames", type=int, default=24, help="Frames of a clip.")
@_option("--bins", type=int, default=128, help="Bins on each side of the box.")
@_option("--steps", "n_steps", type=int, default=1500, help="Steps of the optimiser.")
@_option("--batch-size", type=int, default=64, help="Clips in a step.")
@_option("--layers", "n_layers", type=int, default=3, help="Layers of the transformer.")
@_option("--heads", "n_heads", type=int, default=6, help="Heads of each layer.")
@_option("--width", type=int, default=96, help="Coordinates of a token, in all heads.")
@_option("--learning-rate", type=float, default=3e-3, help="The highest one.")
def video(folder, prompt, grid, share, model, out, shown, **settings):
    """Train a small video model of balls that obey simple laws, or have one continue a sentence as a film.

    Clips are made by the seed as they are needed. An interrupted training continues with the same command; what it
    needs for that is kept beside the folder, as NAME.training. The film is a page that plays without a network.
    """
    if [folder, prompt, grid].count(None) != 2:
        raise click.UsageError("give either --train, --roll or --grid")
    if _given("share") and grid is None:
        raise click.UsageError("--share is for --grid alone")
    if grid is not None:
        if other := [name for name in ("model", "out", "shown", *settings) if _given(name)]:
            raise click.UsageError(
                f"--{other[0].removeprefix('n_').replace('_', '-')} is not for --grid, which sets it"
            )
        from geolib.experiments.windows import grid as trained

        for name in trained(grid, share=share, progress=sys.stderr.isatty()):
            yield {"done": name, "out": str(grid)}, f"{name} in {grid}"
        return
    for name in ("model", "out", "shown") if prompt is None else {*settings} - {"seed", "speed"}:
        if _given(name):
            flag = name.removeprefix("n_").replace("_", "-")
            raise click.UsageError(f"--{flag} is for {'--roll' if prompt is None else '--train'} alone")
    if folder is not None and (folder.exists() or not folder.absolute().parent.is_dir()):
        raise ValueError(f"video: train is '{folder}', but a new folder in one that exists was expected")
    from geolib.video import Settings, save, train

    if folder is None:
        yield _film(prompt, model, out, shown, settings["seed"], settings["speed"] if _given("speed") else None)
        return
    kept, start = folder.with_name(f"{folder.name}.training"), time.perf_counter()
    trained, losses = train(Settings(**settings), checkpoint=kept, progress=sys.stderr.isatty())
    save(trained, folder)
    kept.unlink()
    report = {"out": str(folder), "steps": len(losses), "loss": float(losses[-100:].mean())}
    report |= {"seconds": round(time.perf_counter() - start, 1)}
    yield report, f"{folder}: {len(losses)} steps, at the end {report['loss']:.3f} nats per coordinate"


def _film(prompt, model, out, shown, seed, speed):
    """Roll a sentence from the first frames of a true clip, and write the film of both."""
    from geolib import models
    from geolib.dimension import attention_edges
    from geolib.files import write_text
    from geolib.physics import errors, worlds
    from geolib.video import SHIPPED, between_frames, film, law_of, roll, settings_of

    law, (loaded, _) = law_of(prompt), models.load(model or SHIPPED, device="cpu")
    settings = settings_of(loaded)
    if law not in settings.laws:
        raise ValueError(f"video: roll is {prompt!r}, but a law of the model, {', '.join(settings.laws)}, was expected")
    integer("video: shown", shown, 1, settings.frames - 2)
    true = worlds(1, law=law, frames=settings.frames, speed=settings.speed if speed is None else speed, seed=seed)
    predicted = roll(loaded, prompt, true[:, :shown], settings.frames)
    edges = between_frames(loaded, attention_edges(loaded, settings.encode(prompt, predicted), layer=-1))
    write_text(film(predicted[0], true[0], prompt=prompt, seen=shown, edges=edges), out)
    off = errors(predicted[:, shown:], true[:, shown:], law=law).position[0]
    report = {"out": str(out), "prompt": prompt, "law": law, "position_error": off.tolist()}
    return report, f"{out}: balls are {off.mean():.3f} of the box's side off on average, {off[-1]:.3f} at the end"
