"""Job templates of other pools, rendered as a worker renders them: defaults, then what a deployment sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration

POOLS = Path(__file__).resolve().parents[3] / "flows/pools"


def render(pool: str, values: dict[str, Any]) -> dict[str, Any]:
    template = json.loads((POOLS / f"{pool}.json").read_text())
    variables = template["variables"]
    assert set(variables["required"]) <= values.keys()
    assert values.keys() <= variables["properties"].keys()
    defaults = BaseJobConfiguration._get_base_config_defaults(variables["properties"])
    rendered: dict[str, Any] = apply_values(template["job_configuration"], {**defaults, **values})
    assert "{{" not in json.dumps(rendered)
    return rendered


def test_a_container_of_docker_mounts_the_project() -> None:
    job = render("docker", {"image": "mine:1", "project": "/srv/knowtune", "env": {"MLFLOW_TRACKING_URI": "http://m"}})
    assert job["image"] == "mine:1"
    assert job["volumes"] == ["/srv/knowtune:/knowtune"]
    assert job["env"] == {"MLFLOW_TRACKING_URI": "http://m"}
    assert (job["mem_limit"], job["auto_remove"], job["stream_output"]) == ("16g", True, False)
    assert job["container_create_kwargs"] == {"shm_size": "2g"}


def test_a_job_of_kubernetes_mounts_the_claim_and_is_never_started_twice() -> None:
    job = render("kubernetes", {"image": "mine:1", "claim": "knowtune", "gpus": "1"})
    manifest = job["job_manifest"]["spec"]
    (container,) = manifest["template"]["spec"]["containers"]
    assert (manifest["backoffLimit"], manifest["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["volumeMounts"] == [{"name": "project", "mountPath": "/knowtune"}]
    (volume,) = manifest["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "knowtune"}


@pytest.mark.parametrize("pool", ["docker", "kubernetes"])
def test_every_variable_is_used(pool: str) -> None:
    template = json.loads((POOLS / f"{pool}.json").read_text())
    text = json.dumps(template["job_configuration"])
    assert [name for name in template["variables"]["properties"] if f"{{{{ {name} }}}}" not in text] == []
