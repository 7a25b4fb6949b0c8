"""Styles, scripts and the icon: read once, served from memory, cached by browsers for good."""

from pathlib import Path

from blake3 import blake3
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_GOOD = "public, max-age=31536000, immutable"


class Assets:
    """The files of ``static/``, under an address that changes with their content."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._files = {
            path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES
        }
        digest = blake3()
        for name, data in self._files.items():
            digest.update(name.encode() + b"\0" + len(data).to_bytes(8, "little") + data)
        self.version = digest.hexdigest(length=8)
        """Part of the address; scripts import each other relatively, so that all are of one version."""

    def address(self, name: str) -> str:
        """Returns where a file is served."""
        if name not in self._files:
            raise KeyError(f"there is no static file '{name}'")
        return f"/static/{self.version}/{name}"

    async def serve(self, request: Request) -> Response:
        """Answers ``/static/{version}/{name}``; pages of other versions get the present file, uncached."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        current = request.path_params["version"] == self.version
        return Response(
            self._files[name],
            media_type=_TYPES[Path(name).suffix],
            headers={"cache-control": _FOR_GOOD if current else "no-store"},
        )
