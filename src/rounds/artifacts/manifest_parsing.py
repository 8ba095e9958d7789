"""Parse manifests: find the class of a manifest by its kind, and say in one line what is wrong with a broken one."""

import difflib
import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rounds.artifacts import prompt_manifests, second_stage_manifests  # noqa: F401  their kinds are found as subclasses
from rounds.artifacts.manifests import ConfiguredManifest, Manifest
from rounds.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

KINDS: dict[str | None, type[Manifest]] = {
    manifest.model_fields["kind"].default: manifest
    for parent in (Manifest, ConfiguredManifest)
    for manifest in parent.__subclasses__()
    if manifest is not ConfiguredManifest
}


def parse(content: object, source: str) -> Manifest:
    """Build the manifest that a JSON value describes.

    Args:
        content: the value.
        source: file that it comes from, for messages.

    Raises:
        UserError: the value is no manifest of a known kind, or a key is missing, unknown or has another type.
    """
    if not isinstance(content, dict):
        raise UserError(
            f"{source}: not a manifest of ours; if another tool wrote it, rename it, else delete its folder and run "
            "the stage again"
        )
    kind = content.get("kind")
    if not isinstance(kind, str | None) or kind not in KINDS:
        raise UserError(f"{source}: kind {kind!r} is not one of {', '.join(filter(None, KINDS))}; name another folder")
    manifest = KINDS[kind]
    if kind is None and not content.keys() <= manifest.model_fields.keys():
        raise UserError(f"{source}: key 'kind' is missing; if another tool wrote it, name another folder")
    return parse_as(manifest, content, source, "name another folder, or run the stage again")


def parse_as(model: type[Model], content: object, source: str, advice: str) -> Model:
    """Build the entry of a known class that a JSON value describes.

    Args:
        model: the class.
        content: the value.
        source: file that it comes from, for messages.
        advice: what to do about a broken one.

    Raises:
        UserError: a key is missing, unknown or has another type.
    """
    if not isinstance(content, dict):
        raise UserError(f"{source}: is not a JSON object; {advice}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {_describe(model, error)}; {advice}") from None


def _describe(model: type[BaseModel], error: ValidationError) -> str:
    """Say what is wrong with the first key that pydantic complains about."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] == "extra_forbidden":
        names = [field.alias or name for name, field in model.model_fields.items()]
        nearest = difflib.get_close_matches(key, names, n=1)
        return f"key {key!r} is unknown" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
    value, rule = json.dumps(first["input"])[:60], first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"key {key!r} is {value}, and {rule}"
