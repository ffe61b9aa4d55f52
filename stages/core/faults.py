"""Find every fault of a params file at once: shape, names that do not exist, options, and what does not fit together.

The checks are independent of each other and work on the raw mapping without what has the wrong shape, so that one fault
does not hide another. That is why they stand together here, in more than two hundred lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from knowtune.common.errors import Problem, nearest
from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.registry import member_class
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.tasks import TASKS
from knowtune.text.templates import PACKAGE, is_local, template_columns
from stages.core.plain import unplain
from stages.core.renamed import rename_keys
from stages.core.schema import Params, Training, kind_of_columns
from stages.core.shape import as_problems, check_shape

BASE = "data/base"  # where the base stage puts the pristine base
REFERENCES = {  # names of the leaderboard's lines of constant answers
    "classification": {"majority": "the line of the most frequent label"},
    "regression": {"mean": "the line of the mean score"},
}
HUB = "data/hub/"  # where what is fetched goes
PATHS = (("source", "data"), ("source", "text"), ("base", "path"), ("semantics", "path"))


def faults_of(raw: dict[str, Any], *, deep: bool) -> list[Problem]:
    """Return every fault of a params mapping, ordered by key.

    Args:
        raw: as read from YAML.
        deep: also check PEFT's own options, which imports PEFT (seconds).
    """
    if odd := list(unplain(raw)):
        return odd  # whatever else is wrong: no further check can rely on such values
    renamed, raw = rename_keys(raw)
    problems, raw = check_shape(raw, Params)
    problems = renamed + problems + _places(raw) + _references(raw) + _hub(raw) + _members(raw, deep=deep) + _task(raw)
    return sorted(set(problems), key=lambda problem: problem.where)


def _family(raw: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """Return the members of a family."""
    found: dict[str, dict[str, Any]] = raw.get(key, {})
    return found


def _places(raw: dict[str, Any]) -> list[Problem]:
    """Check that no path leads to the project as a whole."""
    problems = []
    for section, key in PATHS:
        given = raw.get(section, {}).get(key, "")
        elsewhere = given.startswith((PACKAGE, "DATA/")) or os.path.normpath(given).startswith(HUB)
        if not given or elsewhere or (section == "semantics" and given == BASE):
            continue
        here = Path.cwd()
        place = Path(os.path.normpath(here / given))
        parts = place.relative_to(here).parts if place.is_relative_to(here) else ()
        if here.is_relative_to(place) or parts == ("data",):
            allowed = "a file or folder of its own, not one that holds all of the project"
            problems.append(Problem(f"{section}.{key}", repr(given), allowed))
    return problems


def _references(raw: dict[str, Any]) -> list[Problem]:
    """Check that what a member names exists."""
    problems = []

    def must_exist(where: str, name: Any, known: Any) -> None:
        if name is not None and name not in known:
            problems.append(
                Problem(where, repr(name), ", ".join(sorted(known)) or "none is named", nearest(name, known))
            )

    filters, selections, runs = _family(raw, "filters"), _family(raw, "selections"), _family(raw, "runs")
    for name, member in selections.items():
        must_exist(f"selections.{name}.filter", member.get("filter"), filters)
    for name, member in runs.items():
        must_exist(f"runs.{name}.selection", member.get("selection"), selections)
    for name, member in _family(raw, "mixtures").items():
        sources, weights = member.get("from", []), member.get("weights")
        for i, run in enumerate(sources):
            must_exist(f"mixtures.{name}.from[{i}]", run, runs)
        if sources and weights is not None and len(weights) != len(sources):
            problems.append(
                Problem(f"mixtures.{name}.weights", f"{len(weights)} numbers", f"{len(sources)}, one per run")
            )
        seeds = {len(runs[run]["seeds"]) for run in sources if "seeds" in runs.get(run, {})}
        if len(seeds) > 1:
            allowed = "runs with equally many seeds"
            problems.append(Problem(f"mixtures.{name}.from", f"runs with {sorted(seeds)} seeds", allowed))
        if name in runs:
            problems.append(Problem(f"mixtures.{name}", "a name that a run has too", "a name of its own"))
    lines = {"base": "the pristine base's line", **REFERENCES.get(raw.get("task", {}).get("kind"), {})}
    for key in ("runs", "mixtures"):
        for name in set(lines) & set(_family(raw, key)):
            problems.append(Problem(f"{key}.{name}", f"the name of {lines[name]}", "another name"))
    if raw.get("merge", {}).get("keep") == "best" and not _has_validation(raw):
        problems.append(Problem("merge.keep", "'best'", "all, for `source` gives no validation rows"))
    for key in ("runs", "selections"):
        for name, member in _family(raw, key).items():
            seeds_list = member.get("seeds", [])
            if len(set(seeds_list)) < len(seeds_list):
                problems.append(Problem(f"{key}.{name}.seeds", repr(seeds_list), "each seed once"))
    return problems


def _hub(raw: dict[str, Any]) -> list[Problem]:
    """Check that repositories are pinned, and that paths into fetched folders name an entry."""
    problems = []
    hub = _family(raw, "hub")
    for name, item in hub.items():
        repo, revision = item.get("repo"), item.get("revision")
        if repo is not None and is_local(repo) and Path.cwd().is_relative_to(os.path.normpath(Path.cwd() / repo)):
            problems.append(Problem(f"hub.{name}.repo", repr(repo), "the folder of a model or a data set alone"))
        elif repo is not None and not is_local(repo) and not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", repo):
            allowed = "owner/name as the hub has it, or a local path that begins with . or /"
            problems.append(Problem(f"hub.{name}.repo", repr(repo), allowed))
        if repo is None or "revision" not in item:
            continue
        if revision is None and not is_local(repo):
            allowed = "the whole hash of a commit, 40 digits, so that the same files come every time"
            problems.append(Problem(f"hub.{name}.revision", "null", allowed))
        elif revision is not None and is_local(repo):
            problems.append(Problem(f"hub.{name}.revision", repr(revision), "null, for `repo` is a local copy"))
    for section, key in PATHS:
        value = raw.get(section, {}).get(key, "")
        parts = os.path.normpath(value).split("/")
        if parts[:2] == ["data", "hub"] and (len(parts) < 3 or parts[2] not in hub):
            named = ", ".join(f"data/hub/{name}" for name in hub) or "an entry of `hub`"
            problems.append(Problem(f"{section}.{key}", repr(value), named))
    return problems


def _task(raw: dict[str, Any]) -> list[Problem]:
    """Check that data, base and metrics fit the task."""
    given, source, base = (raw.get(key, {}) for key in ("task", "source", "base"))
    kind = given.get("kind")
    if kind not in TASKS:
        return [] if kind is None else [Problem("task.kind", repr(kind), ", ".join(TASKS), nearest(kind, TASKS))]
    problems = []
    try:
        member_class(TASKS, "task", kind).model_validate({key: given[key] for key in given if key != "kind"})
    except ValidationError as error:
        problems += as_problems(error, "task", member_class(TASKS, "task", kind))
    columns = source.get("columns")
    heads = kind != "knowledge"
    if heads and base.get("model") == "embedded":
        problems.append(Problem("base.model", "'embedded'", f"folder; the embedded base is no model for {kind}"))
    if heads and source.get("format") == "embedded":
        problems.append(Problem("source.format", "'embedded'", f"files; the authored facts are no rows for {kind}"))
    if columns is not None and heads != ("label" in columns):
        need = "text, text_pair, label" if heads else "prompt and target, messages, or the columns of a case"
        problems.append(Problem("source.columns", f"{', '.join(columns)}", f"{need}, for task.kind is {kind!r}"))
    if columns is not None:
        problems += _templates(columns) + _cases(source)
    shares = sum(source.get("held_out", {}).values())
    if shares >= 1:
        problems.append(
            Problem("source.held_out", f"shares of {shares:g} in all", "less than 1, for some rows must train")
        )
    fitting = [name for name in METRICS if kind in member_class(METRICS, "metric", name).tasks]
    for i, metric in enumerate(raw.get("evaluate", {}).get("metrics", [])):
        if metric in METRICS and metric not in fitting:
            problems.append(Problem(f"evaluate.metrics[{i}]", f"{metric!r}, which {kind} has not", ", ".join(fitting)))
        elif metric in fitting and "known" in member_class(METRICS, "metric", metric).needs and not has_known(raw):
            got = f"{metric!r}, and `source` gives no known rows"
            allowed = "a metric that reads none; or a file of facts that the base knows, at source.files.known"
            problems.append(Problem(f"evaluate.metrics[{i}]", got, allowed))
    return problems


def has_known(raw: dict[str, Any]) -> bool:
    """Tell whether the source gives rows that the base knows."""
    source = raw.get("source", {})
    if source.get("format") != "files":
        return True
    of_cases = source.get("columns", {}).get("locality_prompt") is not None
    return of_cases or source.get("files", {"known": "?"}).get("known") is not None


def _cases(source: dict[str, Any]) -> list[Problem]:
    """Check what goes with records of whole cases."""
    columns = source["columns"]
    if kind_of_columns(columns) != "cases":
        return []
    problems = []
    said = "a case says itself what is tested and what is known"
    for role in ("validation", "test", "known"):
        if (name := source.get("files", {}).get(role)) is not None:
            problems.append(Problem(f"source.files.{role}", repr(name), f"null, for {said}"))
    for role, share in source.get("held_out", {}).items():
        if share:
            problems.append(Problem(f"source.held_out.{role}", repr(share), f"0, for {said}"))
    prompts, targets = (columns.get(f"locality_{key}") for key in ("prompt", "target"))
    counts = [len(given) if isinstance(given, list) else int(given is not None) for given in (prompts, targets)]
    if (
        {"locality_prompt", "locality_target"} <= set(columns)
        and counts[1] != counts[0]
        and counts[1] != min(counts[0], 1)
    ):
        allowed = f"{counts[0]}, one for each of source.columns.locality_prompt"
        problems.append(Problem("source.columns.locality_target", f"{counts[1]} columns", allowed))
    return problems


def _templates(columns: dict[str, Any]) -> list[Problem]:
    """Check the braces of prompt templates."""
    problems = []
    keys = ("prompt", "target", "text", "text_pair", "paraphrases", "locality_prompt")
    given = [(key, one) for key in keys for one in _listed(columns.get(key))]
    for key, value in given:
        if not set("{}") & set(value):
            continue
        where = f"source.columns.{key}"
        try:
            named = template_columns(value)
        except ValueError as error:
            problems.append(Problem(where, f"{value!r} ({error})", "a template with columns in braces"))
        else:
            if not named or not all(name.strip() for name in named):
                problems.append(Problem(where, repr(value), "a template that names columns in braces"))
    return problems


def _listed(value: Any) -> list[Any]:
    """Give a list as it is, nothing as none, and all else as a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _members(raw: dict[str, Any], *, deep: bool) -> list[Problem]:
    """Check names and options of every family member against the member's own fields, and what fits together."""
    problems: list[Problem] = []

    def member(registry: Mapping[str, str], family: str, name: Any, options: Any, where: tuple[str, str]) -> Any:
        if name is None:
            return None  # the check of the shape says so
        if name not in registry:
            problems.append(Problem(where[0], repr(name), ", ".join(sorted(registry)), nearest(name, registry)))
            return None
        kind = member_class(registry, family, name)
        try:
            return kind.model_validate(options)
        except ValidationError as error:
            problems.extend(as_problems(error, where[1], kind))
            return None

    problems.extend(_semantics(raw, member))
    for name, item in _family(raw, "filters").items():
        strategies, options = item.get("strategy", []), item.get("options", {})
        made = []
        for i, strategy in enumerate(strategies):
            where = (f"filters.{name}.strategy[{i}]", f"filters.{name}.options.{strategy}")
            made.append(member(FILTERS, "filter", strategy, options.get(strategy, {}), where))
        problems.extend(_filter_problems(raw, name, item, made))
        twice = sorted({strategy for strategy in strategies if strategies.count(strategy) > 1})
        if twice:
            problems.append(Problem(f"filters.{name}.strategy", f"{', '.join(twice)} twice", "each strategy once"))
        for extra in set(options) - set(strategies) if "strategy" in item else ():
            allowed = "options of a strategy named in `strategy`"
            problems.append(
                Problem(f"filters.{name}.options.{extra}", "an unknown key", allowed, nearest(extra, strategies))
            )

    def method_member(where: str, item: dict[str, Any]) -> Any:
        """Check a method's name, type and options, of a run or of a selection's adapter."""
        options = item.get("options", {})
        given_type = {"type": item["type"]} if item.get("type") is not None else {}
        if given_type and item.get("method") != "peft":
            problems.append(Problem(f"{where}.type", repr(item["type"]), "only with `method: peft`"))
            given_type = {}
        if "type" in options and item.get("method") == "peft":
            problems.append(Problem(f"{where}.options.type", repr(options["type"]), f"{where}.type"))
        if item.get("method") == "peft" and not given_type:
            problems.append(Problem(f"{where}.type", "nothing", "the name of a PEFT method, e.g. vera"))
            return None
        merged = {**options, **given_type}
        method = member(METHODS, "method", item.get("method"), merged, (f"{where}.method", f"{where}.options"))
        if method is not None and deep and hasattr(method, "problems"):
            problems.extend(method.problems(where))
        return method

    selectors: dict[str, Any] = {}
    for name, item in _family(raw, "selections").items():
        where = (f"selections.{name}.strategy", f"selections.{name}.options")
        selectors[name] = member(SELECTORS, "selector", item.get("strategy"), item.get("options", {}), where)
        problems.extend(_short_trainings(raw, name, item, selectors[name]))
        if item.get("adapter") is not None:
            method = method_member(f"selections.{name}.adapter", item["adapter"])
            if method is not None and not method.is_adapter:
                got = f"{item['adapter']['method']!r}, which has no parameters of its own"
                problems.append(Problem(f"selections.{name}.adapter.method", got, "an adapter, e.g. lora"))
    methods: dict[str, Any] = {}
    for name, item in _family(raw, "runs").items():
        if item.get("method") in ("full", "fish") and _is_quantised(raw):
            got = f"{item['method']!r} on a quantised base"
            problems.append(Problem(f"runs.{name}.method", got, "an adapter, or quantize: none"))
        methods[name] = method = method_member(f"runs.{name}", item)
        selector = selectors.get(item.get("selection", ""))
        trains_on = item.get("train_on", "all")
        if selector is not None and selector.chooses_rows and not selector.masks and trains_on == "all":
            got = f"'all', so that what {item['selection']!r} chooses has no effect"
            problems.append(Problem(f"runs.{name}.train_on", got, "chosen, or a selection that chooses parameters"))
        if selector is not None and not selector.chooses_rows and trains_on == "chosen":
            got = f"'chosen', but {item['selection']!r} leaves no row out"
            problems.append(Problem(f"runs.{name}.train_on", got, "all, or a selection with `samples`"))
        if method is not None and selector is not None and selector.masks != method.uses_mask:
            problems.append(_mask_problem(raw, name, item, selector))
        problems.extend(_training_overrides(raw, name, item))
        problems.extend(_reweight(raw, name, item))
    for name, item in _family(raw, "mixtures").items():
        member(MIXTURES, "mixture", item.get("strategy"), item.get("options", {}),
               (f"mixtures.{name}.strategy", f"mixtures.{name}.options"))  # fmt: skip
        for i, run in enumerate(item.get("from", [])):
            method = methods.get(run)
            if method is not None and not method.folds:
                allowed = "runs whose method folds into plain weights"
                problems.append(Problem(f"mixtures.{name}.from[{i}]", repr(run), allowed))
    for i, metric in enumerate(raw.get("evaluate", {}).get("metrics", [])):
        if metric not in METRICS:
            problems.append(
                Problem(f"evaluate.metrics[{i}]", repr(metric), ", ".join(METRICS), nearest(metric, METRICS))
            )
    return problems


def _semantics(raw: dict[str, Any], member: Callable[..., Any]) -> list[Problem]:
    """Check the representation, and that it reads a model of its own where it has one."""
    section = raw.get("semantics", {})
    name, path, options = section.get("representation"), section.get("path"), section.get("options", {})
    own = name in REPRESENTATIONS and "path" in member_class(REPRESENTATIONS, "representation", name).model_fields
    if "path" in options:
        return [Problem("semantics.options.path", repr(options["path"]), "`semantics.path`, which DVC watches")]
    given = {**options, "path": path or ""} if own else options
    member(REPRESENTATIONS, "representation", name, given, ("semantics.representation", "semantics.options"))
    if own and path == BASE:
        allowed = f"the encoder's folder, for {name} is no representation by the base; an entry of `hub` brings one"
        return [Problem("semantics.path", repr(path), allowed)]
    if name in REPRESENTATIONS and not own and path not in (None, BASE):
        return [Problem("semantics.path", repr(path), f"{BASE}, for {name} reads the base")]
    return []


def _filter_problems(raw: dict[str, Any], name: str, item: dict[str, Any], members: list[Any]) -> list[Problem]:
    """Check that a filter has what its strategies need, and that its strata make a difference."""
    problems = []
    unsketched = raw.get("answers", {}).get("sketch", "none given") is None
    for i, (strategy, made) in enumerate(zip(item.get("strategy", []), members, strict=True)):
        if made is not None and "distance" in made.needs and _kind(raw) == "regression":
            got = f"{strategy!r}, which needs semantic distances, and a score has none"
            problems.append(Problem(f"filters.{name}.strategy[{i}]", got, "a strategy that reads no distance"))
        if made is not None and "sketches" in made.needs and unsketched:
            got = f"nothing, and filters.{name} uses {strategy}"
            problems.append(
                Problem("answers.sketch", got, "dimensions, batch_size and seed of the gradients' sketches")
            )
    if item.get("stratify") is not None and members and not any(made is None or made.ranks for made in members):
        got = f"{item['stratify']!r}, which has no effect: no strategy here ranks rows"
        allowed = f"null, or with one of {', '.join(_ranking_filters())}"
        problems.append(Problem(f"filters.{name}.stratify", got, allowed))
    return problems


def _ranking_filters() -> list[str]:
    """List the filters that compare rows with each other."""
    return [name for name in FILTERS if member_class(FILTERS, "filter", name).ranks]


def _is_quantised(raw: dict[str, Any]) -> bool:
    """Tell whether the base's weights are packed, so that they have no entries to choose or train."""
    return bool(raw.get("compute", {}).get("quantize", "none") != "none")


def _short_trainings(raw: dict[str, Any], name: str, item: dict[str, Any], selector: Any) -> list[Problem]:
    """Check that a selection has the short trainings that it needs, and no others."""
    problems = []
    if item.get("adapter") is not None and selector is not None and not selector.masks:
        allowed = "a strategy with a budget; only that chooses among an adapter's parameters"
        problems.append(Problem(f"selections.{name}.adapter", "an adapter", allowed))
    searches = bool(getattr(selector, "search", False))
    if selector is not None and searches != (item.get("trial") is not None):
        got, allowed = ("nothing", "steps, learning_rate and batch_size, for `search` trains pairs") if searches else (
            "a trial", "none; only `search: true` of strategy ird trains pairs")  # fmt: skip
        problems.append(Problem(f"selections.{name}.trial", got, allowed))
    if searches and not _has_validation(raw):
        problems.append(
            Problem(f"selections.{name}.options.search", "true", "false, for `source` gives no validation rows")
        )
    return problems


def _mask_problem(raw: dict[str, Any], name: str, item: dict[str, Any], selector: Any) -> Problem:
    """Say that a run's method and its selection do not go together."""
    chosen = _family(raw, "selections")[item["selection"]]
    if not selector.masks:
        got, allowed = f"{item['selection']!r}, which makes no parameter mask", "a selection with a budget"
        return Problem(f"runs.{name}.selection", f"{got}; {item['method']} trains one", allowed)
    if chosen.get("adapter") is not None:
        got = f"{item['method']!r} on {item['selection']!r}, which hands on its own {chosen['adapter'].get('method')}"
        return Problem(f"runs.{name}.method", got, "fish, without options")
    allowed = "a selection without a parameter budget, or a method that can use a mask: fish"
    return Problem(f"runs.{name}.selection", f"{item['selection']!r}, which makes a parameter mask", allowed)


def _training_overrides(raw: dict[str, Any], name: str, item: dict[str, Any]) -> list[Problem]:
    """Check what a run overrides of `training`, and that the result has what it needs."""
    own, shared = item.get("training", {}), raw.get("training", {})
    try:
        training = TypeAdapter(Training).validate_python({**shared, **own})
    except ValidationError as error:
        where = f"runs.{name}.training"
        said = {p for key in own for p in as_problems(error, where, Training) if p.where == f"{where}.{key}"}
        return list(said)
    if training.load_best_model_at_end and not _has_validation(raw):
        key = "load_best_model_at_end"
        where = f"runs.{name}.training.{key}" if key in own else f"training.{key}"
        return [Problem(where, "true", "false, for `source` gives no validation rows")]
    return []


def _reweight(raw: dict[str, Any], name: str, item: dict[str, Any]) -> list[Problem]:
    """Check that the task has the distances by which a run weighs its rows or tokens."""
    kind, weighting = _kind(raw), item.get("reweight")
    if weighting is None:
        return []
    if kind == "regression":
        got = "weights by semantic distance, which a score has not"
        return [Problem(f"runs.{name}.reweight", got, "null, where task.kind is 'regression'")]
    if kind == "classification" and weighting.get("granularity") == "token":
        allowed = "example; a classification learns one label of a row, not tokens"
        return [Problem(f"runs.{name}.reweight.granularity", "'token'", allowed)]
    return []


def _kind(raw: dict[str, Any]) -> Any:
    """Give the kind of the task."""
    return raw.get("task", {}).get("kind")


def _has_validation(raw: dict[str, Any]) -> bool:
    """Tell whether the source gives validation rows."""
    source = raw.get("source", {})
    if "files" in source:
        given = source["files"].get("validation") is not None
        return given or source.get("held_out", {}).get("validation", 1) != 0
    return bool(source.get("wordings", {}).get("validation", 1) != 0)
