"""LAD: a student learns of the assignment that a teacher makes (arXiv 2108.10520)."""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.quality.paa import Assignment, PAAHead
from hatdet.registry import register


@register(scope="mmdet")
class LADHead(PAAHead):
    """:class:`PAAHead` whose assignment another head may have made (``get_label_assignment`` of the teacher's head)."""

    def loss_by_feat(
        self,
        *maps: Levels,
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
        label_assignment_results: Assignment | None = None,
    ) -> Losses:
        """Losses; boxes count alike.

        Args:
            maps, truths, metas: as elsewhere.
            label_assignment_results: of the teacher; None: of this head.
        """
        found = label_assignment_results or self.get_label_assignment(*maps, truths=truths, metas=metas)
        return self._losses(maps, found, len(truths), False)
