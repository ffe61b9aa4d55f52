"""Find every fault of a params file at once: shape, names that do not exist, options, and what does not fit together.

The checks are independent of each other and work on the raw mapping, so that one fault does not hide another. That
is why they stand together here, in more than two hundred lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from knowtune.errors import Problem, nearest
from knowtune.families import member_class
from knowtune.filters import FILTERS
from knowtune.methods import METHODS
from knowtune.metrics import METRICS
from knowtune.mixtures import MIXTURES
from knowtune.representations import REPRESENTATIONS
from knowtune.selectors import SELECTORS
from knowtune.settings import is_local, is_template, template_columns
from knowtune.tasks import TASKS
from stages.core.schema import Params, Training

BASE = "data/base"  # where the base stage puts the pristine base


def faults_of(raw: dict[str, Any], *, deep: bool) -> list[Problem]:
    """Return every fault of a params mapping, ordered by key.

    Args:
        raw: as read from YAML.
        deep: also check PEFT's own options, which imports PEFT (seconds).
    """
    problems = _structure(raw) + _references(raw) + _hub(raw) + _members(raw, deep=deep) + _task(raw) + _signs(raw)
    return sorted(set(problems), key=lambda problem: problem.where)


def _signs(raw: dict[str, Any]) -> list[Problem]:
    """Find texts that dvc.lock cannot keep: DVC would write them, read others, and run their stages for ever."""
    problems, todo = [], list[tuple[str, Any]](raw.items())
    while todo:
        where, value = todo.pop()
        if isinstance(value, str) and "\x85" in value:
            problems.append(Problem(where, repr(value), "a text without the sign U+0085 (next line)"))
        elif isinstance(value, dict):
            todo += [(f"{where}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list):
            todo += [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    return problems


def _structure(raw: dict[str, Any]) -> list[Problem]:
    """Check keys, types and bounds."""
    try:
        Params.model_validate(raw)
    except ValidationError as error:
        return as_problems(error, "", Params)
    return []


def as_problems(error: ValidationError, prefix: str, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into ours: one line each, with the nearest name for an unknown key."""
    problems = []
    for item in error.errors():
        path = _without_tags(item["loc"], model)
        where = ".".join([*([prefix] if prefix else []), *path])
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            problems.append(Problem(where, "an unknown key", ", ".join(sorted(known)), nearest(path[-1], known)))
        elif item["type"] == "missing":
            problems.append(Problem(where, "nothing", "a value; this key is required"))
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tag = str(item["ctx"]["discriminator"]).strip("'")
            got = repr(item["ctx"].get("tag", "nothing"))
            allowed = str(item["ctx"].get("expected_tags", "one of the known ones"))
            names = [name.strip(" '") for name in allowed.split(",")]
            problems.append(Problem(f"{where}.{tag}", got, allowed, nearest(got.strip("'"), names)))
        else:
            message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            if item["type"] == "model_type":
                message = "a mapping of keys"
            if path[-1:] == ["[key]"]:  # the only pattern that keys have
                message, where = "a name of letters, digits, _ and -", ".".join([prefix, *path[:-1]]).strip(".")
            problems.append(Problem(where, repr(item["input"]), message))
    return problems


def _without_tags(location: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    """Leave out which alternative of a union pydantic tried: it names that after the field, or after a family's key."""
    path: list[str] = []
    models, step = [model], "field"
    for part in map(str, location):
        if step == "tag":
            step = "field"
            continue
        path.append(part)
        if step == "key":
            step = "tag" if len(models) > 1 else "field"
            continue
        fields = [f for m in models for name, f in m.model_fields.items() if part in (name, f.alias)]
        models = _models_in(fields[0].annotation) if fields else []
        family = bool(fields) and get_origin(fields[0].annotation) is dict
        step = "key" if family else "tag" if len(models) > 1 else "field"
    return path


def _fields_at(model: type[BaseModel], path: list[str]) -> set[str]:
    """Return the keys allowed at a path below a model: of all its alternatives, where the path leads to a union."""
    models = [model]
    for part in path:
        found = []
        for candidate in models:
            field = candidate.model_fields.get(part)
            found += _models_in(field.annotation) if field else []
        models = found or models  # a family member's own name leads nowhere: its fields are the family's
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Find the settings models inside an annotation such as `dict[Name, RunParams]` or `A | B`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]


def _family(raw: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """Return the well-formed members of a family, for the checks that go on beside other faults."""
    family = raw.get(key)
    return {str(n): m for n, m in family.items() if isinstance(m, dict)} if isinstance(family, dict) else {}


def _list(value: Any) -> list[Any]:
    """Return a list as it is, and an empty one for what is no list (the structure check says so)."""
    return value if isinstance(value, list) else []


def _references(raw: dict[str, Any]) -> list[Problem]:
    """Check that what a member names exists."""
    problems = []

    def must_exist(where: str, name: Any, known: Any) -> None:
        if isinstance(name, str) and name not in known:
            problems.append(
                Problem(where, repr(name), ", ".join(sorted(known)) or "none is named", nearest(name, known))
            )

    filters, selections, runs = _family(raw, "filters"), _family(raw, "selections"), _family(raw, "runs")
    named_runs = raw["runs"] if isinstance(raw.get("runs"), dict) else {}
    for name, member in selections.items():
        must_exist(f"selections.{name}.filter", member.get("filter"), filters)
    for name, member in runs.items():
        must_exist(f"runs.{name}.selection", member.get("selection"), selections)
    for name, member in _family(raw, "mixtures").items():
        sources = member.get("from")
        for i, run in enumerate(_list(sources)):
            must_exist(f"mixtures.{name}.from[{i}]", run, named_runs)
        weights = member.get("weights")
        if isinstance(sources, list) and isinstance(weights, list) and len(weights) != len(sources):
            problems.append(
                Problem(f"mixtures.{name}.weights", f"{len(weights)} numbers", f"{len(sources)}, one per run")
            )
        lists = [runs[r].get("seeds") for r in _list(sources) if isinstance(r, str) and r in runs]
        seeds = {len(found) for found in lists if isinstance(found, list)}
        if len(seeds) > 1:
            allowed = "runs with equally many seeds"
            problems.append(Problem(f"mixtures.{name}.from", f"runs with {sorted(seeds)} seeds", allowed))
        if name in runs:
            problems.append(Problem(f"mixtures.{name}", "a name that a run has too", "a name of its own"))
    for key in ("runs", "mixtures"):
        if "base" in _family(raw, key):
            problems.append(Problem(f"{key}.base", "the name of the pristine base's line", "another name"))
    merge = raw.get("merge")
    if isinstance(merge, dict) and merge.get("keep") == "best" and not _has_validation(raw):
        problems.append(Problem("merge.keep", "'best'", "all, for `source` gives no validation rows"))
    for key in ("runs", "selections"):
        for name, member in _family(raw, key).items():
            seeds_list = member.get("seeds")
            if isinstance(seeds_list, list) and len(set(map(str, seeds_list))) < len(seeds_list):
                problems.append(Problem(f"{key}.{name}.seeds", repr(seeds_list), "each seed once"))
    return problems


def _hub(raw: dict[str, Any]) -> list[Problem]:
    """Check that repositories are pinned, and that paths into fetched folders name an entry."""
    problems = []
    hub = _family(raw, "hub")
    for name, item in hub.items():
        repo, revision = item.get("repo"), item.get("revision")
        if isinstance(repo, str) and revision is None and not is_local(repo):
            allowed = "the whole hash of a commit, 40 digits, so that the same files come every time"
            problems.append(Problem(f"hub.{name}.revision", "null", allowed))
        elif isinstance(repo, str) and revision is not None and is_local(repo):
            problems.append(Problem(f"hub.{name}.revision", repr(revision), "null, for `repo` is a local copy"))
    for section, key, given in (
        ("base", "path", raw.get("base")),
        ("source", "data", raw.get("source")),
        ("source", "text", raw.get("source")),
        ("semantics", "path", raw.get("semantics")),
    ):
        value = given.get(key) if isinstance(given, dict) else None
        parts = value.split("/") if isinstance(value, str) else []
        if parts[:2] == ["data", "hub"] and (len(parts) < 3 or parts[2] not in hub):
            named = ", ".join(f"data/hub/{name}" for name in hub) or "an entry of `hub`"
            problems.append(Problem(f"{section}.{key}", repr(value), named))
    return problems


def _task(raw: dict[str, Any]) -> list[Problem]:
    """Check that data, base and metrics fit the task."""
    sections: list[dict[str, Any]] = []
    for key in ("task", "source", "base"):
        section = raw.get(key)
        sections.append(section if isinstance(section, dict) else {})
    given, source, base = sections
    kind = given.get("kind")
    if kind not in TASKS:
        return [] if kind is None else [Problem("task.kind", repr(kind), ", ".join(TASKS), nearest(str(kind), TASKS))]
    problems = []
    try:
        member_class(TASKS, "task", kind)(**{key: value for key, value in given.items() if key != "kind"})
    except ValidationError as error:
        problems += as_problems(error, "task", member_class(TASKS, "task", kind))
    columns = source.get("columns")
    heads = kind != "knowledge"
    if heads and base.get("model") == "embedded":
        problems.append(Problem("base.model", "'embedded'", f"folder; the embedded base is no model for {kind}"))
    if heads and source.get("format") == "embedded":
        problems.append(Problem("source.format", "'embedded'", f"files; the authored facts are no rows for {kind}"))
    if isinstance(columns, dict) and heads != ("label" in columns):
        need = "text, text_pair, label" if heads else "prompt and target, or messages"
        problems.append(Problem("source.columns", f"{', '.join(columns)}", f"{need}, for task.kind is {kind!r}"))
    if isinstance(columns, dict):
        problems += _templates(columns)
    held_out = source.get("held_out")
    shares = (
        [share for share in held_out.values() if isinstance(share, int | float)] if isinstance(held_out, dict) else []
    )
    if sum(shares) >= 1:
        problems.append(
            Problem("source.held_out", f"shares of {sum(shares):g} in all", "less than 1, for some rows must train")
        )
    evaluate = raw.get("evaluate")
    fitting = [name for name in METRICS if kind in member_class(METRICS, "metric", name).tasks]
    for i, metric in enumerate(_list(evaluate.get("metrics")) if isinstance(evaluate, dict) else []):
        if isinstance(metric, str) and metric in METRICS and metric not in fitting:
            problems.append(Problem(f"evaluate.metrics[{i}]", f"{metric!r}, which {kind} has not", ", ".join(fitting)))
    return problems


def _templates(columns: dict[str, Any]) -> list[Problem]:
    """Check the braces of prompt templates."""
    problems = []
    for key in ("prompt", "target", "text", "text_pair"):
        value = columns.get(key)
        try:
            named = template_columns(value) if isinstance(value, str) and is_template(value) else ["a column"]
        except ValueError as error:
            problems.append(
                Problem(f"source.columns.{key}", f"{value!r} ({error})", "a template with columns in braces")
            )
        else:
            if not named or "" in named:
                problems.append(
                    Problem(f"source.columns.{key}", repr(value), "a template that names columns in braces")
                )
    return problems


def _members(raw: dict[str, Any], *, deep: bool) -> list[Problem]:
    """Check names and options of every family member against the member's own fields, and what fits together."""
    problems: list[Problem] = []

    def member(registry: Mapping[str, str], family: str, name: Any, options: Any, where: tuple[str, str]) -> Any:
        if not isinstance(name, str) or not isinstance(options, dict):
            return None  # the structure check says so
        if name not in registry:
            problems.append(Problem(where[0], repr(name), ", ".join(sorted(registry)), nearest(name, registry)))
            return None
        kind = member_class(registry, family, name)
        try:
            return kind(**options)
        except ValidationError as error:
            problems.extend(as_problems(error, where[1], kind))
            return None

    problems.extend(_semantics(raw, member))
    for name, item in _family(raw, "filters").items():
        strategies = _list(item.get("strategy"))
        options = item.get("options", {})
        made = []
        for i, strategy in enumerate(strategies):
            own = options.get(strategy, {}) if isinstance(options, dict) else None
            where = (f"filters.{name}.strategy[{i}]", f"filters.{name}.options.{strategy}")
            made.append(member(FILTERS, "filter", strategy, own, where))
        problems.extend(_filter_problems(raw, name, item, made))
        twice = sorted({str(strategy) for strategy in strategies if strategies.count(strategy) > 1})
        if twice:
            problems.append(Problem(f"filters.{name}.strategy", f"{', '.join(twice)} twice", "each strategy once"))
        for extra in set(options if isinstance(options, dict) else ()) - set(map(str, strategies)):
            allowed = "options of a strategy named in `strategy`"
            problems.append(
                Problem(f"filters.{name}.options.{extra}", "an unknown key", allowed, nearest(extra, strategies or []))
            )

    def method_member(where: str, item: dict[str, Any]) -> Any:
        """Check a method's name, type and options, of a run or of a selection's adapter."""
        options = item.get("options", {})
        given_type = {"type": item["type"]} if item.get("type") is not None else {}
        if given_type and item.get("method") != "peft":
            problems.append(Problem(f"{where}.type", repr(item["type"]), "only with `method: peft`"))
            given_type = {}
        if isinstance(options, dict) and "type" in options and item.get("method") == "peft":
            problems.append(Problem(f"{where}.options.type", repr(options["type"]), f"{where}.type"))
        if item.get("method") == "peft" and not given_type:
            problems.append(Problem(f"{where}.type", "nothing", "the name of a PEFT method, e.g. vera"))
            return None
        merged = {**options, **given_type} if isinstance(options, dict) else None
        method = member(METHODS, "method", item.get("method"), merged, (f"{where}.method", f"{where}.options"))
        if method is not None and deep and hasattr(method, "problems"):
            problems.extend(method.problems(where))
        return method

    selectors: dict[str, Any] = {}
    for name, item in _family(raw, "selections").items():
        where = (f"selections.{name}.strategy", f"selections.{name}.options")
        selectors[name] = member(SELECTORS, "selector", item.get("strategy"), item.get("options", {}), where)
        problems.extend(_short_trainings(raw, name, item, selectors[name]))
        if isinstance(item.get("adapter"), dict):
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
        selector = selectors.get(str(item.get("selection")))
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
        for i, run in enumerate(_list(item.get("from"))):
            method = methods.get(str(run))
            if method is not None and not method.folds:
                allowed = "runs whose method folds into plain weights"
                problems.append(Problem(f"mixtures.{name}.from[{i}]", repr(run), allowed))
    evaluate = raw.get("evaluate")
    for i, metric in enumerate(_list(evaluate.get("metrics")) if isinstance(evaluate, dict) else []):
        if isinstance(metric, str) and metric not in METRICS:
            problems.append(
                Problem(f"evaluate.metrics[{i}]", repr(metric), ", ".join(METRICS), nearest(metric, METRICS))
            )
    return problems


def _semantics(raw: dict[str, Any], member: Callable[..., Any]) -> list[Problem]:
    """Check the representation, and that it reads a model of its own where it has one."""
    section = raw.get("semantics")
    if not isinstance(section, dict):
        return []
    name, path, options = section.get("representation"), section.get("path"), section.get("options", {})
    own = name in REPRESENTATIONS and "path" in member_class(REPRESENTATIONS, "representation", name).model_fields
    if isinstance(options, dict) and "path" in options:
        return [Problem("semantics.options.path", repr(options["path"]), "`semantics.path`, which DVC watches")]
    given = {**options, "path": path} if own and isinstance(options, dict) else options
    member(REPRESENTATIONS, "representation", name, given, ("semantics.representation", "semantics.options"))
    if own and path == BASE:
        allowed = f"the encoder's folder, for {name} is no representation by the base; an entry of `hub` brings one"
        return [Problem("semantics.path", repr(path), allowed)]
    if name in REPRESENTATIONS and not own and isinstance(path, str) and path != BASE:
        return [Problem("semantics.path", repr(path), f"{BASE}, for {name} reads the base")]
    return []


def _filter_problems(raw: dict[str, Any], name: str, item: dict[str, Any], members: list[Any]) -> list[Problem]:
    """Check that a filter has what its strategies need, and that its strata make a difference."""
    problems = []
    answers = raw.get("answers")
    unsketched = isinstance(answers, dict) and answers.get("sketch") is None
    for i, (strategy, made) in enumerate(zip(item["strategy"], members, strict=True) if members else ()):
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
    compute = raw.get("compute")
    return isinstance(compute, dict) and compute.get("quantize", "none") != "none"


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
    if isinstance(chosen.get("adapter"), dict):
        got = f"{item['method']!r} on {item['selection']!r}, which hands on its own {chosen['adapter'].get('method')}"
        return Problem(f"runs.{name}.method", got, "fish, without options")
    allowed = "a selection without a parameter budget, or a method that can use a mask: fish"
    return Problem(f"runs.{name}.selection", f"{item['selection']!r}, which makes a parameter mask", allowed)


def _training_overrides(raw: dict[str, Any], name: str, item: dict[str, Any]) -> list[Problem]:
    """Check what a run overrides of `training`, and that the result has what it needs."""
    own, shared = item.get("training", {}), raw.get("training")
    if not isinstance(own, dict) or not isinstance(shared, dict):
        return []
    try:
        training = TypeAdapter(Training).validate_python({**shared, **own})
    except ValidationError as error:
        problems = as_problems(error, f"runs.{name}.training", Training)
        return [p for p in problems if p.where.split(".")[3] in own]
    if training.keep_best and not _has_validation(raw):
        where = f"runs.{name}.training.keep_best" if "keep_best" in own else "training.keep_best"
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
    if kind == "classification" and isinstance(weighting, dict) and weighting.get("granularity") == "token":
        allowed = "example; a classification learns one label of a row, not tokens"
        return [Problem(f"runs.{name}.reweight.granularity", "'token'", allowed)]
    return []


def _kind(raw: dict[str, Any]) -> Any:
    """Give the kind of the task."""
    task = raw.get("task")
    return task.get("kind") if isinstance(task, dict) else None


def _has_validation(raw: dict[str, Any]) -> bool:
    """Tell whether the source gives validation rows."""
    source = raw.get("source")
    if not isinstance(source, dict):
        return True
    files, wordings, held_out = (source.get(key) for key in ("files", "wordings", "held_out"))
    if isinstance(files, dict):
        return files.get("validation") is not None or (isinstance(held_out, dict) and held_out.get("validation") != 0)
    return not (isinstance(wordings, dict) and wordings.get("validation") == 0)
