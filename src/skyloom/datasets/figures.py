"""Several figures as the pages of one PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyloom.datasets._base import _FileDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigurePagesDataset(_FileDataset):
    """A PDF with a page for each figure; can only be saved."""

    def _read(self, path: str) -> Any:
        msg = "pages of figures can only be saved"
        raise NotImplementedError(msg)

    def _write(self, data: list[Figure], path: str) -> None:
        from matplotlib.backends.backend_pdf import PdfPages

        with PdfPages(path) as pages:
            for figure in data:
                pages.savefig(figure)
