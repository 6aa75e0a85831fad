"""Pascal VOC's folders as a data set: turned into a COCO json in the cache, then read like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.folders import cache_folders
from hatdet.data.folders.readers.voc_xml import CLASSES, read_voc
from hatdet.registry import register
from hatdet.utils.errors import UserError


def as_coco(
    names: Sequence[str], annotations: Path, img_subdir: str, classes: Sequence[str], least_side: int = 0
) -> dict[str, Any]:
    """COCO's form of the pictures named, with MMDetection's boxes: all corners less 1, in whole pixels.

    Args:
        names: of pictures, without their ending.
        annotations: folder of the XML files.
        img_subdir: put before the names.
        classes: objects of others are left out.
        least_side: smaller objects are ignored in training, as difficult ones are.
    """
    ids = {name: number for number, name in enumerate(classes, 1)}
    images, boxes = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, name in enumerate(dict.fromkeys(names), 1):
        picture = read_voc(annotations / f"{name}.xml")
        height, width = picture.size
        images.append({"id": number, "file_name": f"{img_subdir}/{name}.jpg", "width": width, "height": height})
        for found in picture.objects:
            if found.name not in ids:
                continue
            x1, y1, x2, y2 = (int(corner) - 1 for corner in found.corners)
            ignored = found.difficult or min(x2 - x1, y2 - y1) < least_side
            boxes.append({
                "id": len(boxes) + 1, "image_id": number, "category_id": ids[found.name], "iscrowd": int(ignored),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
            })  # fmt: skip
    categories = [{"id": number, "name": name, "supercategory": "none"} for name, number in ids.items()]
    return {"images": images, "annotations": boxes, "categories": categories}


@register(scope="mmdet")
class VOCDataset(CocoDataset):
    """Pictures, XML annotations, and a list of names.

    Args:
        data_root: folder of the data set.
        ann_file: text file with a name a line, relative to ``data_root`` (or absolute).
        img_prefix: the folder (``VOC2007``) with ``img_subdir`` and ``ann_subdir``, relative to ``data_root``.
        classes: default: VOC's twenty.
        img_subdir, ann_subdir: folders of pictures (jpg) and of annotations.
        bbox_min_size: smaller objects are ignored in training, as difficult ones are.

    The other arguments are those of :class:`~hatdet.data.datasets.coco.CocoDataset`.
    """

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str | Path,
        img_prefix: str | Path,
        transforms: Sequence[Callable[..., Any]],
        late_transforms: Sequence[Callable[..., Any]] | None = None,
        num_samples: int | None = None,
        test_mode: bool = False,
        filter_empty: bool = True,
        min_size: int = 0,
        classes: Sequence[str] | None = None,
        cache_mb: int | Literal["auto"] = "auto",
        max_side: int | None = None,
        crowds: bool = False,
        one_class: str | None = None,
        decode_scale: Literal["auto"] | None = None,
        img_subdir: str = "JPEGImages",
        ann_subdir: str = "Annotations",
        bbox_min_size: int = 0,
    ) -> None:
        root = Path(data_root).expanduser()
        names, folder = root / ann_file, root / img_prefix
        if not names.is_file():
            raise UserError(f"the list of pictures {names} does not exist; name it with ann_file")
        pictures = names.read_text(encoding="utf-8").split()
        content = as_coco(pictures, folder / ann_subdir, img_subdir, classes or CLASSES, bbox_min_size)
        super().__init__(
            data_root=root,
            ann_file=_written(content, names, root),
            img_prefix=folder.resolve(),
            transforms=transforms,
            late_transforms=late_transforms,
            num_samples=num_samples,
            test_mode=test_mode,
            filter_empty=filter_empty,
            min_size=min_size,
            classes=classes,
            cache_mb=cache_mb,
            max_side=max_side,
            crowds=crowds,
            one_class=one_class,
            decode_scale=decode_scale,
        )
        self.ann_file = names


def _written(content: dict[str, Any], names: Path, root: Path) -> Path:
    """The json of ``content`` in the first cache folder that can be written; untouched where it says so already."""
    text = json.dumps(content)
    name = f"voc-{names.stem}-{hashlib.sha256(f'{names.resolve()}{text}'.encode()).hexdigest()[:10]}.json"
    for folder in cache_folders(root):
        file = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not file.is_file():
                file.write_text(text, encoding="utf-8")
        except OSError:
            continue
        return file.resolve()
    raise UserError("no cache folder can be written; set HATDET_CACHE to a folder that can")
