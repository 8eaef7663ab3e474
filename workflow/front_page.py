"""The front page's findings, in English and Japanese: each table and number from results/."""

from __future__ import annotations

import json
from pathlib import Path

from workflow.hospitals import ALONE, FEDERATED, PACKAGES, POOLED, WEIGHTS
from workflow.hospitals_page import in_short
from workflow.words import difference, markdown_table, share_of_all, with_interval

METRIC, COVID = "balanced_accuracy", "COVID"
SETS = (  # of the first table: method, labels, storage
    ("random", "hard", "uint8"),
    ("random", "teachers", "uint8"),
    ("herding", "hard", "uint8"),
    ("trajectory", "hard", "float32"),
    ("real_loss", "learned", "uint8"),
    ("full", "hard", "uint8"),
)
BEST, SAME_LABELS = SETS[4], SETS[1]
ROUNDED = ("trajectory", "hard", "uint8")  # beside its row
QUOTED = (4.0, 1.0)  # epsilons on this page
ENGLISH = {
    "range": "{} to {}",
    "and": " and ",
    "worth head": (
        "networks trained on",
        "balanced accuracy",
        "share of all images (corrected for chance)",
        "COVID sensitivity",
    ),
    ("random", "hard"): "80 random real images, hard labels",
    ("random", "teachers"): "the same, soft labels",
    ("herding", "hard"): "80 real images chosen by herding, hard labels",
    ("trajectory", "hard"): (
        "80 images distilled by trajectory matching, as in the paper; hard labels, not rounded "
        "to 8 bits (rounded: {rounded:.3f})"
    ),
    ("real_loss", "learned"): "**80 images distilled by the loss on real images**",
    ("full", "hard"): "all {images:,} training images",
    "worth": (
        "*Real chest radiographs of four classes at 32 × 32 pixels ([the data](results.md)), "
        "{test:,} of them for the test. Balanced accuracy is the mean of the sensitivities of all "
        "classes; chance is 0.25. Brackets are 95 % intervals over test images and networks. "
        "[More](beyond.md).* The images in bold have soft labels (probabilities). Their balanced "
        "accuracy is higher by {paired} than that of random real images with soft labels, and by "
        "{herding} than that of images by herding with soft labels. Images made in the same way, "
        "in {iterations} iterations, also outperform random ones on {above} of {others} networks "
        "that they were not made with (intervals above zero). Distilled images were made {sets} "
        "times, random ones drawn {draws} times. The settings of the method in bold were first "
        "explored on this test part, so its scores may be slightly too high. "
        "**Limits:** a classifier that knows only which collection an image comes from, its "
        "*source*, already has a balanced accuracy of {source:.3f}, so no row shows that a disease "
        "is detected. The COVID sensitivity of the images in bold, {covid}, is below that of all "
        "images, {covid_full}."
    ),
    "hospitals head": ("a receiver trains on", "sent", "rounds", "balanced accuracy"),
    "hospital": "hospital ",
    "ways": {
        ALONE: " alone",
        PACKAGES: "all packages",
        WEIGHTS: "weights, predictions averaged",
        FEDERATED: "federated averaging",
        POOLED: "all real data in one place",
    },
    "hospitals": (
        "*On the phantom (profile `{profile}`), whose {count} sites stand for hospitals; each "
        "distils its data {draws} times, and intervals cover these draws. [More](weights.md), and "
        "[step by step](notebooks/08_hospitals).* These figures cannot be compared with those "
        "above. {sentences}"
    ),
    "private head": ("80 images", "balanced accuracy", "minus random real images"),
    "random real images": "random real images: no protection",
    "distilled": "made from noisy sums over the real images, epsilon {epsilon:g}",
    "private": (
        "*The same radiographs, with pixels scaled by public constants; {draws} releases at each "
        "epsilon. [More](guarantee.md).* The guarantee is differential privacy: epsilon limits how "
        "much any one image changes what is released, whatever an attacker knows, and a smaller "
        "epsilon protects better: at epsilon 1, an observer who considers it an even chance that "
        "an image was included is at most about 75 % sure after seeing the set, except with a "
        "probability of about 1 in 100,000. The price is accuracy: balanced accuracy is {price}, "
        "compared with {best:.3f} for the images in bold above. Images distilled in any other way "
        "have no guarantee. On the phantom, {nearest} of {of} such images are nearest to the "
        "training image that they started from, and [an attack](leakage.md) finds {found} of these "
        "training images, where chance would give {chance}."
    ),
    "price": "{mean:.3f} at epsilon {epsilon:g}",
    "short": (
        "**In short.** *May I send such images?* That is for those responsible for the patients to "
        "decide. Images distilled in the usual way have no guarantee: on the phantom (simulated "
        "radiographs), the strongest attack tried finds {found} of the {of} training images that "
        "they started from. *What does a guarantee cost?* Balanced accuracy is {price} (a smaller "
        "epsilon protects better), instead of {best:.3f} for images that are made without one. "
        "That is about as high as with an equal number of random real images ({random:.3f}). "
        "Without its noise the method with a guarantee reaches {noiseless:.3f}, so that most of "
        "the difference comes from the method. *Is a disease detected?* Not shown: the collection "
        "that an image "
        "comes from already predicts its class, with a balanced accuracy of {source:.3f}."
    ),
}
JAPANESE = {
    "range": "{}〜{}",
    "and": "、",
    "worth head": (
        "学習に用いたもの",
        "バランス精度",
        "全画像に対する比（偶然を補正）",
        "COVIDの感度",
    ),
    ("random", "hard"): "無作為に選んだ実画像80枚、ハードラベル",
    ("random", "teachers"): "同じ画像にソフトラベル",
    ("herding", "hard"): "ハーディングで選んだ実画像80枚、ハードラベル",
    ("trajectory", "hard"): (
        "学習軌跡の一致（論文の方法）による"
        "蒸留画像80枚、ハードラベル、"
        "8ビットに丸めない値（丸めると{rounded:.3f}）"
    ),
    ("real_loss", "learned"): "**実画像に対する損失による蒸留画像80枚**",
    ("full", "hard"): "全学習画像{images:,}枚",
    "worth": (
        "*実際の胸部X線画像（32×32画素、4クラス、"
        "学習{images:,}枚、テスト{test:,}枚）。"
        "角括弧内は95%区間、偶然の水準は0.25。[詳細](beyond.md)（英語）。* "
        "学習したソフトラベル付きの蒸留画像は、"
        "ソフトラベル付きの無作為に選んだ実画像を{paired}、"
        "ソフトラベル付きのハーディングの画像を{herding}上回ります。"
        "同じ方法で{iterations}回反復した画像は、"
        "蒸留に使っていない別のネットワーク"
        "{others}種のうち{above}種で、無作為な画像を上回ります。"
        "蒸留は{sets}回、無作為抽出は{draws}回行いました。"
        "太字の方法の設定は、当初このテストデータで探索したため、"
        "数値はわずかに高すぎる可能性があります。"
        "**限界：** 画像の収集元を知るだけで{source:.3f}に達するため、"
        "どの行も疾患の検出を示すものではありません。"
        "また、COVIDの感度は{covid}で、全画像の{covid_full}を下回ります。"
    ),
    "private head": (
        "画像80枚",
        "バランス精度",
        "無作為に選んだ実画像との差",
    ),
    "random real images": "無作為に選んだ実画像（保護なし）",
    "distilled": "実画像から求めた和にノイズを加えて作成、ε = {epsilon:g}",
    "private": (
        "*同じX線画像（画素は公開の定数で正規化）。"
        "εごとに{draws}回の公開。"
        "[詳細](guarantee.md)（英語）。* "
        "この保証は差分プライバシーです。"
        "εは、任意の1枚の画像が公開物に及ぼす影響を制限し、"
        "攻撃者が何を知っていても成り立ちます。"
        "εが小さいほど強く保護します。"
        "ε = 1 では、その画像が含まれるかどうかを"
        "五分五分と考えていた人の確信は、"
        "画像を見た後でも最大で約75%です（約100,000分の1の例外を除く）。"
        "代償はバランス精度で、上の太字の画像の"
        "{best:.3f}に対して{price}です。"
        "ほかの方法で作った蒸留画像に保証はありません。"
        "ファントムでは、そうした蒸留画像{of}枚のうち{nearest}枚が、"
        "出発点となった学習画像に最も近く、[攻撃](leakage.md)は"
        "その学習画像を{found}枚見つけます（偶然なら{chance}枚）。"
    ),
    "hospitals head": (
        "受け手が学習に用いるもの",
        "送信量",
        "通信回数",
        "バランス精度",
    ),
    "hospital": "病院",
    "ways": {
        ALONE: "のみ",
        PACKAGES: "すべてのパッケージ",
        WEIGHTS: "重み（予測を平均）",
        FEDERATED: "連合平均化",
        POOLED: "集約した実データ",
    },
    "hospitals": (
        "*ファントム（プロファイル`{profile}`）。"
        "{count}か所の撮影施設を病院と見なし、"
        "各病院は{draws}回蒸留し、区間はその違いも含みます。"
        "[詳細](weights.md)（英語）。* "
        "上の表の数値とは比較できません。"
    ),
    "price": "ε = {epsilon:g} で{mean:.3f}",
    "short": (
        "**要点。** *送ってもよいか。* その可否を本書は判断できません。"
        "通常の方法で作った蒸留画像に保証はなく、"
        "ファントム（シミュレーション画像）では、蒸留の出発点となった"
        "学習画像{of}枚のうち{found}枚を攻撃で特定できます。"
        "*保証の代償は。* バランス精度は{best:.3f}から{price}に下がり、"
        "同じ枚数の無作為に選んだ実画像"
        "（{random:.3f}）と同程度になります。"
        "同じ方法はノイズなしでも{noiseless:.3f}で、"
        "差の大半は方法によるものです。"
        "*疾患は検出できるか。* 示されていません。"
        "画像の収集元を知るだけで、バランス精度は{source:.3f}になります。"
    ),
}


def worth(folder: Path, words: dict = ENGLISH) -> str:
    """Say what a few images are worth on real radiographs, and what limits that.

    Args:
        folder: of the records.
        words: of a language.
    """
    found, source = _sets(folder), _source(folder)
    full = found[SETS[-1]]
    counts = _read(folder / "real-cxr64.json")["variants"]["balanced"]["data"]["counts"]
    numbers = {"images": sum(counts["train"]), "test": sum(counts["test"])}
    numbers["rounded"] = found[ROUNDED][METRIC]["mean"]
    sensitivity = lambda row: row["per_class"][COVID]["sensitivity"]
    rows = [
        (
            words[one[:2]].format(**numbers),
            with_interval(found[one][METRIC]),
            share_of_all(found[one][METRIC], full[METRIC], len(full["per_class"])),
            with_interval(sensitivity(found[one])),
        )
        for one in SETS
    ]
    best = found[BEST]
    minus = {
        one["against"]: difference(one)
        for one in best["differences"]
        if (one["labels"], one["metric"]) == (SAME_LABELS[1], METRIC)
    }
    unseen = [
        row
        for row in _read(folder / "beyond-cxr64.json")["rows"]
        if row["network"] != "convnet" and row["method"] == BEST[0]
    ]
    elsewhere = [
        one["low"] > 0
        for row in unseen
        for one in row["differences"]
        if (one["against"], one["metric"]) == (SAME_LABELS[0], METRIC)
    ]
    said = words["worth"].format(
        above=sum(elsewhere),
        others=len(elsewhere),
        iterations=unseen[0]["iterations"],
        paired=minus["random"],
        herding=minus["herding"],
        sets=len(best["seeds"]),
        draws=len(found[SETS[0]]["seeds"]),
        source=source,
        covid=f"{sensitivity(best)['mean']:.2f}",
        covid_full=f"{sensitivity(full)['mean']:.2f}",
        **numbers,
    )
    return "\n".join([*markdown_table(words["worth head"], rows), "", said, ""])


def short(folder: Path, words: dict = ENGLISH) -> str:
    """Answer what a physician asks first: may I send them, what does protection cost.

    Args:
        folder: of the records.
        words: of a language.
    """
    random = next(row for row in _released(folder) if row["what"] == "random real images")
    numbers = _attacked(folder, words) | {"price": _price(folder, words)}
    numbers |= {"best": _sets(folder)[BEST][METRIC]["mean"], "random": random[METRIC]["mean"]}
    numbers["noiseless"] = _noiseless(folder)
    return words["short"].format(source=_source(folder), **numbers) + "\n"


def guaranteed(folder: Path, words: dict = ENGLISH) -> str:
    """Say what sets with a guarantee are worth.

    Args:
        folder: of the records.
        words: of a language.
    """
    rows = [row for row in _released(folder) if row.get("epsilon") in (None, *QUOTED)]
    cells = [
        (
            words[row["what"]].format(epsilon=row.get("epsilon") or 0),
            with_interval(row[METRIC]),
            difference(row["above_random"][METRIC]) if "above_random" in row else "",
        )
        for row in sorted(rows, key=lambda row: -(row.get("epsilon") or 1e9))
    ]
    draws = min(row["draws"] for row in rows if "draws" in row)
    said = words["private"].format(
        draws=draws,
        price=_price(folder, words),
        best=_sets(folder)[BEST][METRIC]["mean"],
        **_attacked(folder, words),
    )
    return "\n".join([*markdown_table(words["private head"], cells), "", said, ""])


def hospitals(folder: Path, words: dict = ENGLISH) -> str:
    """Say what several hospitals reach by each way to share: from results/hospitals-phantom.json.

    Args:
        folder: of the results.
        words: of a language.
    """
    record = _read(folder / "hospitals-phantom.json")
    rows = [row for row in record["rows"] if row["epsilon"] is None]
    order = (ALONE, PACKAGES, WEIGHTS, FEDERATED, POOLED)
    shown = [row for way in order for row in rows if row["way"] == way]
    cells = [
        (
            f"{_hospital(row['hospital'], words)}{words['ways'][row['way']]}",
            f"{row['sent_bytes'] / 1000:,.0f} kB" if row["sent_bytes"] else "",
            str(row["rounds"] or ""),
            with_interval(row[METRIC]),
        )
        for row in shown
    ]
    said = words["hospitals"].format(
        profile=record["profile"],
        count=sum(row["way"] == ALONE for row in rows),
        draws=max(row["draws"] for row in rows),
        sentences=in_short(rows),
    )
    return "\n".join([*markdown_table(words["hospitals head"], cells), "", said, ""])


def _hospital(name: str | None, words: dict) -> str:
    return (name or "").replace("hospital ", words["hospital"])


def _sets(folder: Path) -> dict[tuple, dict]:
    """The rows of the study's own network and size, by method, labels and storage."""
    record = _read(folder / "beyond-cxr64.json")
    place = lambda row: (row["method"], row["labels"], row["storage"])
    size = record["settings"]["distill"]["images_per_class"]
    return {
        place(row): row
        for row in record["rows"]
        if row["network"] == "convnet" and row["images_per_class"] == size
    }


def _released(folder: Path) -> list[dict]:
    """Random real images, and the sets with a guarantee."""
    wanted = ("random real images", "distilled")
    return [row for row in _read(folder / "private-cxr64.json")["rows"] if row["what"] in wanted]


def _noiseless(folder: Path) -> float:
    """The score of the method with a guarantee, without its noise."""
    rows = _read(folder / "private-cxr64.json")["rows"]
    return next(row for row in rows if row["what"] == "distilled without noise")[METRIC]["mean"]


def _price(folder: Path, words: dict) -> str:
    """The scores at each epsilon, the weakest protection first."""
    sets = [row for row in _released(folder) if row.get("epsilon") in QUOTED]
    sets.sort(key=lambda row: -row["epsilon"])
    told = lambda row: words["price"].format(mean=row[METRIC]["mean"], epsilon=row["epsilon"])
    return words["and"].join(map(told, sets))


def _attacked(folder: Path, words: dict) -> dict:
    """What an attack finds on the phantom."""
    audit = _read(folder / "audit-lira-phantom-0.01.json")["audit"]
    nearest = audit["neighbours"]["pixels"]["start_is_nearest"]
    attack = audit["membership"]["lira"]["released"]["starting"]
    return {
        "nearest": nearest["count"],
        "of": nearest["of"],
        "found": attack["true_positives"]["count"],
        "chance": words["range"].format(*attack["by_chance"]),
    }


def _source(folder: Path) -> float:
    """The balanced accuracy of knowing the source alone."""
    return _read(folder / "compare-real-cxr64.json")["origins"]["class_from_origin"]


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
