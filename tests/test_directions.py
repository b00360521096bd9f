"""Every sentence says the right direction in both languages: more is not less, few are not many, low comes before high.

The table holds, for each sentence that speaks of a direction, its words of direction and its `{names}` in the order in
which they stand. A sentence that is added or turned round has to be put into the table, and read there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from portrayal.evaluation.phrases import number
from portrayal.report.wording import counted, fixed, signed
from portrayal.sentences import Said, say, templates
from portrayal.studio.texts import Entry, Texts, entries, plural_form

RUSSIAN = entries("ru", "sentences.")
SENTENCES: Mapping[str, Mapping[str, Entry]] = {"en": templates(), "ru": RUSSIAN}
PAGE = {language: entries(language) for language in ("en", "ru")}
LEXICON = {
    "en": re.compile(
        r"\{(\w+)|\b(more|less|better|worse|higher|lower|lowest|highest|most|least|smallest|smaller|largest|larger|"
        r"brighter|brighten|bright|darker|dark|ahead|behind|rose|rises|fell|falls|few|fewer|many|costs|gains|upper|left|"
        r"right|over|under|nearer|further|later|earlier|enlarged|enough|beyond|within|weaker|stronger|harm|lost|"
        r"blurred|sharp|sharper|without|not|no|cannot|never|nothing|nobody|surely|distinguishably|up to|down|too|same|"
        r"alike|equal|hardly|reaches|turn|half)\b",
        re.IGNORECASE,
    ),
    "ru": re.compile(
        r"\{(\w+)|\b(больше|меньше|лучше|хуже|выше|ниже|наименьш\w+|наибольш\w+|светлее|темнее|светлы|впереди|позади|"
        r"раст[её]т|падает|снижает|повышает|мал|мала|мало|много|левый|правый|верхний|нижний|тёмная|осветлите|ближе|"
        r"дальше|увеличена|уменьшите|достаточно|послабее|навредило|размыта|чётче|чётких|отставание|слишком|не|ни|нельзя|нет|"
        r"неясно|без|достоверно|неразличимы|равны|следующих|предыдущих|распространила|стали|почти|половины)\b",
        re.IGNORECASE,
    ),
}

DIRECTIONS = {
    "number.difference": ("{mean} {low} {high}", "{mean} {low} {high}"),
    "number.difference_alone": ("{mean} no", "{mean} без"),
    "number.level": ("{mean} {low} {high}", "{mean} {low} {high}"),
    "number.level_alone": ("{mean} no", "{mean} без"),
    "basis.photos_in_folds": ("{photos} {n}", "{photos} {n}"),
    "basis.nothing": ("nothing", "без"),
    "basis.open": ("too {basis}", "слишком {basis}"),
    "basis.open_alone": ("too {basis} no", "слишком {basis} не"),
    "gate.prompt": ("less", "хуже"),
    "gate.drift": ("turn", ""),
    "gate.colour": ("", "светлее темнее"),
    "gate.loses": ("{model} {lost}", "{model} {lost}"),
    "verdict.nothing": ("no nothing", "ни не не"),
    "verdict.loss_decides": ("not weaker", "не послабее"),
    "verdict.rank_alone": ("{best} distinguishably worse {axis}", "{best} достоверно хуже {axis}"),
    "verdict.rank_alone_or": ("{best} distinguishably worse {axis} {lost}", "{best} достоверно хуже {axis} {lost}"),
    "verdict.rank_expected": ("{best} {n} {axis} {chance} {next} {other}", "{best} {n} {axis} {chance} {next} {other}"),
    "verdict.rank_smaller": (
        "{best} smaller more {leader} no worse {axis} more {margin}",
        "{best} меньше {leader} {axis} хуже не {margin}",
    ),
    "verdict.side_ahead": (
        "{ahead} ahead {other} {axis} {lead} {ahead} {other} smaller",
        "{ahead} впереди {other} {axis} {lead} {other}",
    ),
    "model.lora_at": ("{rank} {rate}", "{rank} {rate}"),
    "verdict.harm": ("better {model} harm", "лучше {model} навредило"),
    "verdict.base_open": ("{model} better too {basis}", "лучше {model} {basis} нельзя слишком мало"),
    "verdict.no_unet": ("no", "не"),
    "verdict.trade_off": ("{ahead} ahead {other} {axis} {lost}", "{ahead} впереди {other} {axis} {lost}"),
    "verdict.sides_near": ("{lora} too {lora} smaller", "{lora} слишком мало {lora} меньше"),
    "verdict.sides_same": ("{lora} cannot {lora} smaller", "{lora} неразличимы {lora} меньше"),
    "verdict.side_better": ("{model} distinguishably better {other}", "{model} достоверно лучше {other}"),
    "identity.none": ("not nothing", "не нельзя"),
    "identity.placed": ("{model} {place}", "{model} {place}"),
    "identity.placed_open": ("{model} {place} {difference} {open}", "{model} {place} {difference} {open}"),
    "identity.more": ("more {difference}", "больше {difference}"),
    "identity.less": ("less {difference}", "меньше {difference}"),
    "identity.untold": ("{level} not {real} {stranger}", "{level} не {real} {stranger}"),
    "identity.at_real": ("reaches {real} {level}", "не меньше {real} {level} нет"),
    "identity.at_stranger": ("no more {stranger} {level}", "не больше {stranger} {level}"),
    "identity.between": ("{share} {stranger} {real} {level}", "{share} {stranger} {real} {level}"),
    "ranks.readings": ("{axis} {readings}", "{axis} {readings}"),
    "ranks.reading": ("{model} {value}", "{value} {model}"),
    "ranks.behind": ("behind {leader} beyond {each}", "отставание {leader} {each}"),
    "ranks.behind_by": ("{model} {difference}", "{difference} {model}"),
    "ranks.equal": ("{models} equal within {margin}", "{models} равны {margin}"),
    "ranks.open": ("{models} {open}", "{models} {open}"),
    "ranks.surer": ("more", ""),
    "ranks.clearly_behind": ("behind not further {models}", "дальше не {models}"),
    "rates.diverged": ("{models} too", "{models} слишком"),
    "rates.decide": ("more {rate} within {within} {rank} {apart}", "{rate} не больше {within} {rank} {apart}"),
    "rates.highest": ("{model} highest higher better", "{model} лучше"),
    "rates.lowest": ("{model} lowest lower better", "{model} лучше"),
    "ranks.set_aside_for": ("{model} {lost}", "{model} {lost}"),
    "sides.unmeasured": ("{lora} not same", "{lora} не"),
    "sides.difference": ("{axis} {difference}", "{axis} {difference}"),
    "sides.equal": ("{lora} equal within {margin} {difference}", "{lora} равны {margin} {difference}"),
    "sides.open": ("{lora} {difference} {open}", "{lora} {difference} {open}"),
    "sides.ahead": ("ahead {lora} beyond {difference}", "достоверно впереди {lora} {difference}"),
    "sides.behind": ("behind {lora} beyond {difference}", "достоверно позади {lora} {difference}"),
    "prompt.none": ("not", "не"),
    "prompt.no_base": ("{model} {value} no", "{model} {value} не не"),
    "prompt.difference": ("{value} {difference}", "{value} {difference}"),
    "prompt.equal": ("{model} within {margin} {difference}", "{model} {margin} {difference}"),
    "prompt.open": ("{model} lost {difference} {open}", "{model} хуже неясно {difference} {open}"),
    "prompt.better": ("{model} better {difference}", "{model} лучше {difference}"),
    "prompt.worse": ("{model} lost {difference}", "{model} хуже {difference}"),
    "drift.none": ("within {margin}", "мало {margin}"),
    "drift.more": ("{difference} {model} over", "стали {difference} {model} распространила"),
    "drift.less": ("less {difference}", "меньше {difference}"),
    "drift.open": ("too {difference}", "стали нельзя {difference}"),
    "brightness.none": ("not", "не"),
    "brightness.against_one": ("{model} {first}", "{model} {first}"),
    "brightness.against_both": ("{model} {first} {second}", "{model} {first} {second}"),
    "brightness.brighter": ("brighter {than} {difference}", "светлее {than} {difference}"),
    "brightness.darker": ("darker {than} {difference}", "темнее {than} {difference}"),
    "brightness.alike": ("bright {than} {difference}", "светлы {than} {difference}"),
    "brightness.open": ("too {than} {difference}", "слишком {than} {difference}"),
    "control.kept": ("{measure} {level}", "{measure} {level}"),
    "control.kept_more": ("{measure} {level} {gain} same without", "{measure} {level} без {gain}"),
    "control.kept_more_open": ("{measure} {level} {gain} same without too", "{measure} {level} без {gain} слишком"),
    "control.ceiling": ("most {value}", "выше не {value}"),
    "control.costs": ("costs {first} {start} {last} {difference}", "снижает {first} {start} {last} {difference}"),
    "control.gains": ("gains {first} {start} {last} {difference}", "повышает {first} {start} {last} {difference}"),
    "control.cost_open": (
        "costs too {first} {start} {last} {difference}",
        "снижает нельзя {first} {start} {last} {difference}",
    ),
    "control.without": ("without", "без"),
    "loss.fell": ("{on} {model} fell {level}", "{on} {model} меньше {level}"),
    "loss.fell_open": ("{on} {model} fell {level} too", "{on} {model} меньше {level} слишком"),
    "loss.rose": ("{on} {model} rose {level}", "{on} {model} больше {level}"),
    "loss.rose_open": ("{on} {model} rose {level} too", "{on} {model} больше {level} слишком"),
    "course.best_by_identity": ("{model} {step} {last} surely more", "{model} {step} {last} достоверно больше"),
    "course.last_by_identity": ("{model} {last} no earlier surely more", "{model} {last} ни не достоверно больше"),
    "course.best_by_loss": ("{model} {step} {last} lowest", "{model} {step} {last} наименьшей"),
    "course.by_heart": ("lowest {lowest} {rising} surely rises", "наименьшей {lowest} {rising} достоверно растёт"),
    "course.trainings": ("behind {n} {model} never", "{n} {model} не"),
    "course.one_fold": ("behind", ""),
    "cuts.offered": (
        "smallest no worse {rank} {size} {whole} {difference} {command}",
        "не хуже {rank} {size} {whole} {difference} {command}",
    ),
    "cuts.none": ("no smaller no worse", "ни меньше не не хуже"),
    "photos.few": ("{n} too few {fewest} {most} | {n} few {fewest} {most}", "{n} мало лучше {fewest} {most}"),
    "photos.many": ("{n} more {fewest} {most} most", "{n} больше достаточно {fewest} {most}"),
    "photos.alike": ("{n} {total}", "{n} {total}"),
    "photos.clothes": ("{n} {total} {colour} too", "{n} {total} {colour}"),
    "photos.place": ("{n} {total} {place} too", "{n} {total} {place}"),
    "photos.sizes": ("nearer further", "ближе дальше"),
    "photo.closed": ("cannot {reason}", "не {reason}"),
    "photo.no_picture": ("not", "не ни"),
    "photo.too_large": ("{n} over {most} down", "{n} не больше {most} уменьшите"),
    "photo.too_small": ("{width} {height} too few", "{width} {height} не"),
    "photo.heic": ("more", ""),
    "photo.dropped": ("left", "не"),
    "photo.duplicate": ("same {name}", "{name}"),
    "photo.near_duplicate": ("same {name} enough", "почти не {name}"),
    "photo.small": ("{n} enlarged {made} larger sharper", "{n} увеличена {made} чётче"),
    "photo.tiny": ("{n} not half {wanted}", "{n} меньше половины {wanted}"),
    "photo.blurred": ("blurred {blur} sharp up to {most} sharper", "размыта {blur} чётких не больше {most} чётче"),
    "photo.dark": ("too dark {lightness} brighten", "слишком тёмная {lightness} осветлите"),
    "photo.burnt": ("{share} less", "{share}"),
    "photo.small_face": ("{share} nearer", "{share} ближе"),
    "photo.watermark": ("{n} same {where}", "{n} {where}"),
    "mark.upper_left_corner": ("upper left", "левый верхний"),
    "mark.upper_right_corner": ("upper right", "правый верхний"),
    "mark.lower_left_corner": ("lower left", "левый нижний"),
    "mark.lower_right_corner": ("lower right", "правый нижний"),
    "mark.upper_edge": ("upper", "верхний"),
    "mark.lower_edge": ("lower", "нижний"),
    "mark.left_edge": ("left", "левый"),
    "mark.right_edge": ("right", "правый"),
    "mask.unusable": ("cannot {why}", "не {why}"),
    "mask.other_shape": ("{found} {due}", "{found} {due}"),
    "mask.black": ("over", ""),
    "mask.hardly_any": ("hardly {noun} {share}", "почти не {noun} {share}"),
    "mask.all_of_it": ("{noun} {share}", "{noun} {share}"),
    "upload.too_heavy": ("{size} {most}", "{size} не больше {most}"),
    "upload.neither": ("", "не не"),
    "upload.no_picture": ("no", "нет ни"),
    "upload.too_many": ("{most} most", "не больше {most}"),
    "archive.nameless": ("without", "без"),
    "archive.too_much": ("more {most}", "больше {most}"),
    "archive.too_heavy": ("{size} over {most}", "{size} не больше {most}"),
    "archive.bomb": ("more no", "больше не"),
    "beside.lone_mask": ("no not", "нет не"),
    "beside.lone_captions": ("not {names} {more}", "нет {names} {more}"),
    "beside.more": ("{n} more", "{n}"),
    "beside.no_text": ("cannot not", "не не"),
    "beside.too_heavy": ("more {most} down", "больше {most} уменьшите"),
}
"""By key: words of direction and names, in English and in Russian; of one and of others where they differ."""


def forms(entry: Entry) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def sequence(language: str, text: str) -> str:
    """Names and words of direction in the order in which they stand."""
    return " ".join(f"{{{name}}}" if name else word.lower() for name, word in LEXICON[language].findall(text))


def directed(language: str, entry: Entry) -> bool:
    """Whether something can be turned round: it has a word of direction, or two names."""
    found = sequence(language, forms(entry)[0]).split()
    return len(found) > 1 or any(not one.startswith("{") for one in found)


def test_every_sentence_of_a_direction_is_in_the_table() -> None:
    found = {key for language, known in SENTENCES.items() for key, entry in known.items() if directed(language, entry)}
    assert found == DIRECTIONS.keys()


@pytest.mark.parametrize("key", sorted(DIRECTIONS))
def test_each_says_its_direction_in_both_languages(key: str) -> None:
    for language, wanted in zip(("en", "ru"), DIRECTIONS[key], strict=True):
        assert {sequence(language, form) for form in forms(SENTENCES[language][key])} == {*wanted.split(" | ")}


# Plurals ---------------------------------------------------------------------------------------------------------

ONE = (1, 21, 31, 101, 121, 1001)
FEW = (2, 3, 4, 22, 24, 33, 102, 124)
MANY = (0, *range(5, 21), 25, 100, *range(111, 115), 211, 1012, 1014)

RUSSIAN_FORMS = {
    "basis.photos": ("отложенной фотографии", "отложенным фотографиям", "отложенным фотографиям"),
    "basis.photos_in_folds": ("части", "частей", "частей"),
    "basis.seeds": ("зерну", "зёрнам", "зёрнам"),
    "loss.on": ("отложенной фотографии", "отложенных фотографиях", "отложенных фотографиях"),
    "course.trainings": ("стоит {n} обучение", "стоят {n} обучения", "стоят {n} обучений"),
    "photos.alike": ("{total} похожа", "{total} похожи", "{total} похожи"),
    "photos.place": ("снята", "сняты", "сняты"),
    "photo.too_large": ("мегапиксель,", "мегапикселя,", "мегапикселей,"),
    "photo.animated": ("{n} картинка;", "{n} картинки;", "{n} картинок;"),
    "photo.small": ("{n} пиксель", "{n} пикселя", "{n} пикселей"),
    "photo.tiny": ("{n} пиксель,", "{n} пикселя,", "{n} пикселей,"),
    "photo.several_people": ("{n} человек;", "{n} человека;", "{n} человек;"),
    "photo.watermark": ("{n} фотографии", "{n} фотографиях", "{n} фотографиях"),
    "queue.waiting": ("ждёт ещё {n} задание", "ждут ещё {n} задания", "ждут ещё {n} заданий"),
    "projects.photos": ("{n} фотография", "{n} фотографии", "{n} фотографий"),
    "photos.added": ("Добавлена {n} фотография.", "Добавлены {n} фотографии.", "Добавлено {n} фотографий."),
    "photos.refused": ("{n} файл не подошёл:", "{n} файла не подошли:", "{n} файлов не подошли:"),
    "photos.left_over": ("{n} не взята:", "{n} не взяты:", "{n} не взяты:"),
    "photos.missing_photos": ("Нужна ещё {n} фотография.", "Нужны ещё {n} фотографии.", "Нужно ещё {n} фотографий."),
    "photos.ready": ("Участвует {n} фотография.", "Участвуют {n} фотографии.", "Участвует {n} фотографий."),
    "plan.changed": ("изменена {n}", "изменены {n}", "изменено {n}"),
}
"""Of every Russian plural what one, few and many have that is theirs."""

ENGLISH_FORMS = {
    "basis.photos": ("{n} held-out photo", "{n} held-out photos"),
    "basis.photos_in_folds": ("{n} fold", "{n} folds"),
    "basis.seeds": ("{n} seed", "{n} seeds"),
    "loss.on": ("{n} held-out photo", "{n} held-out photos"),
    "photos.few": ("{n} good photo is", "{n} good photos are"),
    "photos.alike": ("{total} looks like", "{total} look like"),
    "queue.waiting": ("{n} more is waiting", "{n} more are waiting"),
    "projects.photos": ("{n} photo", "{n} photos"),
    "photos.added": ("{n} photo added", "{n} photos added"),
    "photos.refused": ("{n} file could", "{n} files could"),
    "photos.left_over": ("{n} more was left", "{n} more were left"),
    "photos.missing_photos": ("{n} more photo is needed", "{n} more photos are needed"),
    "photos.ready": ("{n} photo will", "{n} photos will"),
    "plan.changed": ("{n} changed", "{n} changed"),
}
"""Of every English plural what one and others have that is theirs."""


def plurals(*known: Mapping[str, Entry]) -> dict[str, Mapping[str, str]]:
    return {
        key: entry for one in known for key, entry in one.items() if isinstance(entry, Mapping) and "other" in entry
    }


def test_every_plural_is_in_the_tables() -> None:
    """Two languages need not have a plural at the same places; each has its own."""
    assert plurals(RUSSIAN, PAGE["ru"]).keys() == RUSSIAN_FORMS.keys()
    assert plurals(templates(), PAGE["en"]).keys() == ENGLISH_FORMS.keys()


@pytest.mark.parametrize(("numbers", "form"), [(ONE, "one"), (FEW, "few"), (MANY, "many")])
def test_a_russian_count_chooses_its_form(numbers: tuple[int, ...], form: str) -> None:
    assert {number: plural_form("ru", number) for number in numbers} == dict.fromkeys(numbers, form)
    assert {number: plural_form("en", number) for number in (*ONE[1:], *FEW, *MANY)} == dict.fromkeys(
        (*ONE[1:], *FEW, *MANY), "other"
    )
    assert plural_form("en", 1) == "one"


def speakers(key: str, language: str) -> Callable[[int], str]:
    """What says a plural of a count: the page by its own texts, the package by its sentences."""
    known = {**PAGE[language], **SENTENCES[language]}
    names = {name for form in forms(known[key]) for name in re.findall(r"\{(\w+)", form)} - {"n"}
    values = {name: say("model.unet") if name == "model" else f"<{name}>" for name in names}
    if key in PAGE[language]:
        return lambda n: Texts(language)(key, n=n, **values)
    return lambda n: Texts(language).said(say(key, n=n, **values))


def is_said(words: str, n: int, text: str) -> bool:
    """Whether a text has these words, whole, and the count."""
    wanted = re.escape(words.replace("{n}", str(n)).replace("{total}", "<total>"))
    return bool(re.search(rf"(?<!\w){wanted}(?!\w)", text) and re.search(rf"(?<!\d){n}(?!\d)", text))


@pytest.mark.parametrize("key", sorted(RUSSIAN_FORMS))
def test_each_russian_plural_is_said_of_every_count(key: str) -> None:
    speak = speakers(key, "ru")
    for numbers, words in zip((ONE, FEW, MANY), RUSSIAN_FORMS[key], strict=True):
        for n in numbers:
            assert is_said(words, n, speak(n)), n


@pytest.mark.parametrize("key", sorted(ENGLISH_FORMS))
def test_each_english_plural_is_said_of_every_count(key: str) -> None:
    speak = speakers(key, "en")
    for n in (1, *ONE[1:], *FEW, *MANY):
        assert is_said(ENGLISH_FORMS[key][n != 1], n, speak(n)), n


@pytest.mark.parametrize("n", [*ONE, *FEW, *MANY])
def test_a_report_counts_in_english(n: int) -> None:
    assert counted(n, "photo") == (f"{n} photo" if n == 1 else f"{n} photos")


def test_a_plural_is_chosen_by_its_own_count() -> None:
    """Folds and photos of one sentence have a plural each."""
    photos = say("basis.photos", n=1)
    said = say("basis.photos_in_folds", photos=photos, n=5)
    assert (said, Texts("ru").said(said)) == ("1 held-out photo in 5 folds", "1 отложенной фотографии из 5 частей")
    assert isinstance(said, Said)


@pytest.mark.parametrize("value", [-0.004, 0.0, 0.004])
def test_what_rounds_to_nought_has_no_sign(value: float) -> None:
    assert (fixed(value), signed(value, 2), number(value, 2), number(value, 2, sign=True)) == ("0.00",) * 4
    assert [Texts(language).number(value, 2) for language in ("en", "ru")] == ["0.00", "0,00"]
    assert [Texts(language).percent(value) for language in ("en", "ru")] == ["0%", "0\u00a0%"]
