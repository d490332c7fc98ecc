"""The one switch: with DOCRAY_EMBEDDER=remote gateway and worker embed through the Serve deployment `Embedder`."""

import io
from pathlib import Path

import httpx

from tests.acceptance.conftest import down, up
from tests.pdf_factory import lines, pdf


def test_a_document_is_embedded_and_found_through_the_deployment(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    try:
        running = up(folder, DOCRAY_EMBEDDER="remote")
        with running.client() as client:
            document = client.wait(client.upload(io.BytesIO(pdf([lines("The lighthouse keeper feeds eleven cats.")])))["id"], timeout_s=180)
            assert document["state"] == "ready"
            found = client.search("How many animals live at the beacon?", mode="dense")
            assert found["results"][0]["document"]["id"] == document["id"]
            assert found["degraded"] == []
        url = (folder / "instance.json").read_text(encoding="utf-8")
        token = (folder / "secrets" / "ray_token").read_text(encoding="utf-8")
        dashboard = url.split('"dashboard_url": "')[1].split('"')[0]
        deployed = httpx.get(f"{dashboard}/api/serve/applications/", headers={"Authorization": f"Bearer {token}"}, trust_env=False).json()
        assert set(deployed["applications"]["docray"]["deployments"]) == {"Gateway", "Embedder"}
    finally:
        down(folder)
