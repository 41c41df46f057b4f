"""Loops that numba compiles for the CPU, one file for each of their PyTorch twins or clients.
Arrays are NumPy's.
"""

from diff_ifs.kernels.chain import iterate_by_letter as iterate_by_letter
from diff_ifs.kernels.chain import play as play
from diff_ifs.kernels.collage import collage_errors as collage_errors
from diff_ifs.kernels.collage import gap as gap
from diff_ifs.kernels.collage import hill_climb as hill_climb
from diff_ifs.kernels.density import deposit as deposit
from diff_ifs.kernels.density import merge as merge
from diff_ifs.kernels.descent import descend as descend
from diff_ifs.kernels.descent import tree_loss as tree_loss
from diff_ifs.kernels.descent import word_loss as word_loss
from diff_ifs.kernels.growth import grow as grow
from diff_ifs.kernels.growth import iterate as iterate
from diff_ifs.kernels.growth import mark as mark
from diff_ifs.kernels.growth import pen_ious as pen_ious
from diff_ifs.kernels.growth import support as support
from diff_ifs.kernels.picture import blur as blur
from diff_ifs.kernels.picture import convolve as convolve
from diff_ifs.kernels.picture import misfits as misfits
from diff_ifs.kernels.splat import splat as splat
from diff_ifs.kernels.splat import splat_gradient as splat_gradient
from diff_ifs.kernels.tiles import draw_tiles as draw_tiles
from diff_ifs.kernels.tiles import subdivide as subdivide
from diff_ifs.kernels.words import words_by_weight as words_by_weight
