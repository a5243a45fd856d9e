"""Published figures, each with its source and setting, to stand beside ours."""

from typing import NamedTuple


class Published(NamedTuple):
    value: float
    std: float | None
    source: str
    setting: str


KIPF = "Kipf and Welling 2017, arXiv 1609.02907, table 2"
VELICKOVIC = "Velickovic et al. 2018, arXiv 1710.10903, table 2"
WU = "Wu et al. 2019, arXiv 1902.07153, table 2"
NT = "NT and Maehara 2019, arXiv 1905.09550, table 2"
GASTEIGER = "Gasteiger et al. 2019, arXiv 1810.05997, table 2"
LIU = "Liu et al. 2020, arXiv 2007.09296, table 2"
CHEN = "Chen et al. 2020, arXiv 2007.02133, table 2"
AUTOENCODERS = "Kipf and Welling 2016, arXiv 1611.07308, table 1"
INFOMAX = "Velickovic et al. 2019, arXiv 1809.10341, table 2"
XU = "Xu et al. 2019, arXiv 1810.00826, table 1"
DWIVEDI = "Dwivedi et al. 2020, arXiv 2003.00982, table of the 100k-parameter models"
CORSO = "Corso et al. 2020, arXiv 2004.05718, as listed by later papers with the table of arXiv 2003.00982"
FEY = "Fey et al. 2018, arXiv 1711.08920, as listed by Papers with Code"
AVELAR = "Avelar et al. 2020, arXiv 2002.05544, as listed by Papers with Code"
POTTER = "Potter et al. 2020, openreview.net/forum?id=Y45i-hDynr, abstract"
MA = "Ma et al. 2023, arXiv 2305.17589, table of the benchmark of arXiv 2003.00982"
SHIRZAD = "Shirzad et al. 2023, arXiv 2303.06147, as listed by Papers with Code"
LUO = "Luo et al. 2025, arXiv 2502.09263, table of the benchmark of arXiv 2003.00982"
TUNED = "Luo et al. 2024, arXiv 2406.08993, table of the heterophilous graphs"
PLATONOV = "Platonov et al. 2023, arXiv 2302.11640, table of the new data sets"
# OGB's leaderboards as they stood on 2026-05-12: github.com/snap-stanford/ogb-web, _docs/leaderboard
OGB = "Hu et al. 2020, arXiv 2005.00687, as listed by OGB's leaderboard"
PAPERS = "Hu et al. 2020, arXiv 2005.00687, table of ogbn-mag; not on OGB's leaderboard"
SIGNS = "Frasca et al. 2020, arXiv 2004.11198, as listed by OGB's leaderboard, run by {}"
ZHU = "Zhu 2005, as listed by OGB's leaderboard, run by H. He"

TUTORIAL = 'Knyazev 2019, "Tutorial on Graph Neural Networks for Computer Vision and Beyond", part 1'
LECUN = 'LeCun et al. 1998, "Gradient-based learning applied to document recognition", section III.B'

PUBLIC_100 = "public split, 100 runs"
TEN_SPLITS = "ten splits"
DEEPEST = "public split, 100 runs, the best of 2 to 64 layers"
ONE_SPLIT = "one split, 10 runs; average precision"
FOLDS = "10-fold cross-validation, epoch chosen on the mean over the test folds"
SUPERPIXELS = "55000 training graphs of their own superpixels, about 100000 parameters, 4 seeds"
SAME_GRAPHS = "the same graphs, about 100000 parameters"
MONTI = "graphs of 75 nodes by Monti et al. 2017, arXiv 1611.08402"
ADJACENT = "75 superpixels requested, touching regions joined"
COLOURED = "45000 training graphs of their own superpixels, about 100000 parameters, 4 seeds"
SCAFFOLD = "scaffold split, 10 seeds, 5 layers of 300 with bond features, 100 epochs"
SPECIES = "species split, 10 seeds, 5 layers of 300 with edge features, 100 epochs"
UNDISTORTED = "60000 training images without distortions, 20 epochs"
BASELINE = "OGB's split, three layers of 256, full batches, 10 seeds"
OGB_SPLIT = "OGB's split, 10 seeds"

PUBLISHED: dict[tuple[str, str], Published] = {
    ("cora", "gcn"): Published(81.5, None, KIPF, PUBLIC_100),
    ("citeseer", "gcn"): Published(70.3, None, KIPF, PUBLIC_100),
    ("pubmed", "gcn"): Published(79.0, None, KIPF, PUBLIC_100),
    ("cora", "gat"): Published(83.0, 0.7, VELICKOVIC, PUBLIC_100),
    ("citeseer", "gat"): Published(72.5, 0.7, VELICKOVIC, PUBLIC_100),
    ("pubmed", "gat"): Published(79.0, 0.3, VELICKOVIC, PUBLIC_100),
    ("cora", "sgc"): Published(81.0, 0.0, WU, "public split, 10 runs"),
    ("citeseer", "sgc"): Published(71.9, 0.1, WU, "public split, 10 runs"),
    ("pubmed", "sgc"): Published(78.9, 0.0, WU, "public split, 10 runs"),
    ("cora", "gfnn"): Published(81.0, None, NT, "public split"),
    ("pubmed", "gfnn"): Published(79.0, None, NT, "public split"),
    ("cora", "appnp"): Published(83.3, None, CHEN, "public split"),
    ("pubmed", "appnp"): Published(79.7, 0.3, GASTEIGER, "their own splits with 20 labels a class, 100 runs"),
    ("cora", "dagnn"): Published(84.4, 0.5, LIU, PUBLIC_100),
    ("pubmed", "dagnn"): Published(80.5, 0.5, LIU, PUBLIC_100),
    ("cora", "jknet"): Published(81.1, None, CHEN, f"{DEEPEST}: 4"),
    ("pubmed", "jknet"): Published(78.1, None, CHEN, f"{DEEPEST}: 32"),
    ("cora", "gcnii"): Published(85.5, 0.5, CHEN, f"{DEEPEST}: 64"),
    ("pubmed", "gcnii"): Published(80.2, 0.4, CHEN, f"{DEEPEST}: 16"),
    ("links-cora", "gae"): Published(91.0, None, AUTOENCODERS, f"{ONE_SPLIT} 92.0"),
    ("links-cora", "vgae"): Published(91.4, None, AUTOENCODERS, f"{ONE_SPLIT} 92.6"),
    ("links-pubmed", "gae"): Published(96.4, None, AUTOENCODERS, f"{ONE_SPLIT} 96.5"),
    ("links-pubmed", "vgae"): Published(94.4, None, AUTOENCODERS, f"{ONE_SPLIT} 94.7"),
    ("cora", "dgi"): Published(82.3, 0.6, INFOMAX, "public split, 50 runs"),
    ("citeseer", "dgi"): Published(71.8, 0.7, INFOMAX, "public split, 50 runs"),
    ("pubmed", "dgi"): Published(76.8, 0.6, INFOMAX, "public split, 50 runs"),
    ("minesweeper", "gcn"): Published(97.86, 0.24, TUNED, "three splits, 12 layers"),
    ("minesweeper", "sage"): Published(97.77, 0.62, TUNED, "three splits, 15 layers"),
    ("minesweeper", "gat"): Published(97.73, 0.73, TUNED, "three splits, 15 layers"),
    ("roman-empire", "gcn"): Published(91.27, 0.20, TUNED, "three splits, 9 layers"),
    ("amazon-ratings", "gat"): Published(55.54, 0.51, TUNED, "three splits, 4 layers"),
    ("tolokers", "gcn"): Published(83.64, 0.67, PLATONOV, TEN_SPLITS),
    ("tolokers", "sage"): Published(82.43, 0.44, PLATONOV, TEN_SPLITS),
    ("questions", "gcn"): Published(79.02, None, TUNED, "three splits, 10 layers"),
    ("squirrel-filtered", "gcn"): Published(45.01, 1.63, TUNED, TEN_SPLITS),
    ("chameleon-filtered", "gcn"): Published(46.29, 3.40, TUNED, TEN_SPLITS),
    ("mutag", "gin"): Published(89.4, 5.6, XU, FOLDS),
    ("proteins", "gin"): Published(76.2, 2.8, XU, FOLDS),
    ("mnist-superpixels", "gcn"): Published(90.71, 0.22, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "monet"): Published(90.81, 0.03, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "gat"): Published(95.54, 0.21, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "gin"): Published(96.49, 0.25, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "sage"): Published(97.31, 0.10, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "gated-gcn"): Published(97.34, 0.14, DWIVEDI, SUPERPIXELS),
    ("mnist-superpixels", "pna"): Published(97.94, 0.12, CORSO, SUPERPIXELS),
    ("mnist-superpixels-monti", "spline"): Published(95.22, None, FEY, MONTI),
    ("mnist-superpixels-avelar", "gat"): Published(96.19, None, AVELAR, ADJACENT),
    ("cifar-superpixels", "gcn"): Published(55.71, 0.38, DWIVEDI, COLOURED),
    ("cifar-superpixels", "monet"): Published(54.66, 0.52, DWIVEDI, COLOURED),
    ("cifar-superpixels", "gat"): Published(64.22, 0.46, DWIVEDI, COLOURED),
    ("cifar-superpixels", "gin"): Published(55.26, 1.53, DWIVEDI, COLOURED),
    ("cifar-superpixels", "sage"): Published(65.77, 0.31, DWIVEDI, COLOURED),
    ("cifar-superpixels", "gated-gcn"): Published(67.31, 0.31, DWIVEDI, COLOURED),
    ("lenet-mnist", "cnn"): Published(99.05, None, LECUN, UNDISTORTED),
    ("lenet-mnist", "cnn-graph"): Published(99.05, None, LECUN, UNDISTORTED),
    ("tutorial-mnist", "logistic"): Published(91.0, None, TUTORIAL, '"over 91", 10 epochs'),
    ("tutorial-mnist", "fixed"): Published(92.24, None, TUTORIAL, "10 epochs"),
    ("tutorial-mnist", "predicted"): Published(91.05, None, TUTORIAL, "10 epochs; 92.39 with tricks of a later paper"),
    ("ogbn-arxiv", "mlp"): Published(55.50, 0.23, OGB, BASELINE),
    ("ogbn-arxiv", "gcn"): Published(71.74, 0.29, OGB, BASELINE),
    ("ogbn-arxiv", "sage"): Published(71.49, 0.27, OGB, BASELINE),
    ("ogbn-arxiv", "sign"): Published(71.95, 0.11, SIGNS.format("DGL's team"), OGB_SPLIT),
    ("ogbn-arxiv", "labels"): Published(68.32, 0.00, ZHU, "OGB's split"),
    ("ogbn-products", "mlp"): Published(61.06, 0.08, OGB, BASELINE),
    ("ogbn-products", "gcn"): Published(75.64, 0.21, OGB, BASELINE),
    ("ogbn-products", "sage"): Published(78.50, 0.14, OGB, BASELINE),
    ("ogbn-products", "sign"): Published(80.52, 0.16, SIGNS.format("DGL's team"), OGB_SPLIT),
    ("ogbn-products", "labels"): Published(74.34, 0.00, ZHU, "OGB's split"),
    ("ogbn-proteins", "mlp"): Published(72.04, 0.48, OGB, BASELINE),
    ("ogbn-proteins", "gcn"): Published(72.51, 0.35, OGB, BASELINE),
    ("ogbn-proteins", "sage"): Published(77.68, 0.20, OGB, BASELINE),
    ("ogbn-mag", "mlp"): Published(26.92, 0.26, OGB, BASELINE),
    ("ogbn-mag", "gcn"): Published(30.43, 0.25, PAPERS, BASELINE),
    ("ogbn-mag", "sage"): Published(31.53, 0.15, PAPERS, BASELINE),
    ("ogbn-mag", "rgcn"): Published(46.78, 0.67, OGB, "NeighborSampling (R-GCN aggr), " + OGB_SPLIT),
    ("ogbn-papers100M", "mlp"): Published(47.24, 0.31, OGB, OGB_SPLIT),
    ("ogbn-papers100M", "sgc"): Published(63.29, 0.19, OGB, OGB_SPLIT),
    ("ogbn-papers100M", "sign"): Published(65.68, 0.06, SIGNS.format("E. Rossi"), OGB_SPLIT),
    ("ogbg-molhiv", "gcn"): Published(76.06, 0.97, OGB, SCAFFOLD),
    ("ogbg-molhiv", "gin"): Published(75.58, 1.40, OGB, SCAFFOLD),
    ("ogbg-molhiv", "gcn-virtual"): Published(75.99, 1.19, OGB, SCAFFOLD),
    ("ogbg-molhiv", "gin-virtual"): Published(77.07, 1.49, OGB, SCAFFOLD),
    ("ogbg-molpcba", "gcn"): Published(20.20, 0.24, OGB, SCAFFOLD),
    ("ogbg-molpcba", "gin"): Published(22.66, 0.28, OGB, SCAFFOLD),
    ("ogbg-molpcba", "gcn-virtual"): Published(24.24, 0.34, OGB, SCAFFOLD),
    ("ogbg-molpcba", "gin-virtual"): Published(27.03, 0.23, OGB, SCAFFOLD),
    ("ogbg-ppa", "gcn"): Published(68.39, 0.84, OGB, SPECIES),
    ("ogbg-ppa", "gin"): Published(68.92, 1.00, OGB, SPECIES),
    ("ogbg-ppa", "gcn-virtual"): Published(68.57, 0.61, OGB, SPECIES),
    ("ogbg-ppa", "gin-virtual"): Published(70.37, 1.07, OGB, SPECIES),
}

# of networks that are none of our layers, on what a task trains on
ELSEWHERE: dict[str, dict[str, Published]] = {
    "mnist-superpixels": {
        "GRIT": Published(98.11, None, MA, SAME_GRAPHS),
        "Exphormer": Published(98.41, 0.04, SHIRZAD, SAME_GRAPHS),
        "GCN+": Published(98.38, None, LUO, SAME_GRAPHS),
        "GatedGCN+": Published(98.71, None, LUO, SAME_GRAPHS),
    },
    "mnist-superpixels-monti": {"pseudo-differential operators": Published(99.20, None, POTTER, MONTI)},
}
