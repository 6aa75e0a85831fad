"""Pack an image folder (DIR/train/CLASS/*.jpg) into an LMDB folder for classification pretraining."""

from _start import start

start(__name__, "image_folder_packer")
