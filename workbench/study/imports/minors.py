"""Words that name a child or a minor, in the languages that prompt lists are written in.

names_minor   does a text name one?
languages     the languages that a list of texts is written in
LANGUAGES     those whose words are known
foreign       does a text seem to be in a language whose words are not known?

English is looked for in every text. So is what names a minor in one of the other languages and means nothing else in any of them. What does
mean something else elsewhere (German "Kind", Italian "bimbo") counts only where the text has small words of that language around it. A word
list finds what it lists: whoever imports a list must read it all the same.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable

_SMALL = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_YEARS = "1[0-7]|[1-9]"
_AGE = rf"(?:{_YEARS}|{_SMALL})"

ENGLISH = [
    r"child(?:ren|s|hood|like|ish)?",
    r"kids?|kiddos?",
    r"bab(?:y|ies)|newborns?|infants?|toddlers?|tots?",
    r"minors|a minor|under[- ]?aged?",
    r"(?:pre[- ]?)?teen(?:s|aged?|agers?)?|tweens?|adolescents?|juveniles?|pre[- ]?pubescents?",
    r"(?:little|small|young|tiny|school|teenaged?|under[- ]?age)[- ]?(?:girl|boy|one)s?",
    r"school[- ]?(?:kid|child|children|age)s?|kindergart\w*|pre[- ]?schoolers?|elementary school\w*",
    r"lolis?|lolitas?|lolicon|shotas?|shotacon",
    r"youngsters?|youths?",
    rf"{_AGE}[- ]?(?:years?|yrs?)[- ]?olds?",
    rf"{_AGE} ?(?:yo|y/o|y\.o\.?)",
    rf"aged? (?:of )?{_AGE}",
]
# without accents, but ñ and ß; each stands for nothing else in another of these languages
ANYWHERE = {
    "French": [
        r"enfants?(?! terribles?)|enfantins?|enfantines?|enfance|nourrissons?|ecolieres?|ecoliers?|lyceen(?:ne)?s?|collegien(?:ne)?s?",
        r"garconnets?|(?:petits?|jeunes?) garcons?|fillettes?|jeunes? filles?|petites? filles?|mineure?s? de \w+ ans",
        rf"agee?s? de (?:{_YEARS}) ans|de (?:{_YEARS}) ans",
    ],
    "German": [
        r"m(?:a|ae)dchen|kleinkind(?:er|ern|es|s)?|schulkind(?:er|ern|es|s)?|s(?:a|ae)ugling(?:e|en|s)?|minderj(?:a|ae)hrig\w*",
        r"kinder(?:n|garten\w*|zimmer\w*|gesicht\w*|k(?:o|oe)rper\w*)|kindchen|kindlein|kindlich\w*|kindheit\w*|jugendliche[nrs]?",
        r"schulm(?:a|ae)dchen|schuljungen?|teenagerin(?:nen)?|grundsch(?:u|ue)ler\w*|enkelkind(?:er|ern|es|s)?",
        rf"(?:{_YEARS})[- ]?j(?:a|ae)hrige[mnrs]?|(?:{_YEARS}) jahren? alt\w*",
    ],
    "Italian": [
        r"bambin[aeio]|bambinett[aeio]|neonat[aeio]|fanciull[aeio]|minorenn[ei]|ragazzin[aeio]|adolescent[ei]|scolar[aeio]|infanzia",
        rf"di (?:{_YEARS}) anni",
    ],
    "Portuguese": [
        r"criancas?|criancinhas?|(?<!las )menin[ao]s?|menininh[ao]s?|moleques?|garotinh[ao]s?|adolescentes?|infancia|menores? de idade",
        rf"de (?:{_YEARS}) anos",
    ],
    "Spanish": [
        r"niñ[ao]s?|niñit[ao]s?|niñez|chiquill[ao]s?|colegialas?|adolescentes?|menores? de edad|muchachit[ao]s?",
        rf"de (?:{_YEARS}) años",
    ],
}
# only beside small words of the language
WITHIN = {
    "French": [r"filles?|garcons?|bebes?|gosses?|gamin(?:e)?s?|mineure?s?|ados?|bambins?|momes?|adolescente?s?"],
    "German": [
        r"kind(?:es|er|ern|s)?|buben?|babys?|sch(?:u|ue)ler(?:in(?:nen)?|n|s)?|(?:ein|kleiner|zwei|drei|vier) jungen?",
        # before a noun it is an adjective: "eine junge Frau" is a young woman
        r"junge[ns]?(?= ?(?:$|[,.;:!?]|(?:am|an|auf|aus|bei|beim|der|die|hinter|im|in|mit|neben|ohne|und|unter|vor|zum)\b))",
    ],
    "Italian": [r"bimb[aeio]|ragazz[aeio]|minori|minore di|bebe"],
    "Portuguese": [r"bebes?|garot[ao]s?|rapaz(?:es)?|guri[as]?|mocinh[ao]s?|menores"],
    "Spanish": [r"nin[ao]s?|bebes?|infantes?|infantil(?:es)?|muchach[ao]s?|chaval(?:a|es|as)?|nen[ae]s?|menores|crios?|crias?"],
}
_SMALL_WORDS = {
    "English": "a an the of and with at by near on is are in for to from his her its",
    "French": "une des du les dans avec sur sous est et au aux le la un cette ses son sa qui pour chez photo",
    "German": "ein eine einem einen einer eines der das dem den des und mit von vom auf im am bei zum zur ist für fur foto bild neben",
    "Italian": "una uno della del dello degli delle nel nella con che di il lo gli sul sulla foto e per",
    "Portuguese": "uma um dos das do da na no com e ao à em os as o pela pelo foto de",
    "Spanish": "una un unos unas el los las del en con y al que por para foto de la",
}
SMALL_WORDS = {language: set(words.split()) for language, words in _SMALL_WORDS.items()}
# no spaces between words, so parts of words are looked for
CJK = {
    "Japanese": [
        "子供|子ども|こども|コドモ|女の子|男の子|少女|少年|幼女|幼児|乳児|赤ちゃん|赤ん坊|新生児|園児|幼稚園|保育園|児童|未成年|幼い",
        "小学生|中学生|高校生|(?<![ァ-ー])(?:ロリ|ロリータ|ショタ)(?![ァ-ー])",
        rf"(?<![0-9])(?:{_YEARS})[歳才]",
    ],
    "Chinese": ["孩子|孩童|小孩|女孩|男孩|儿童|兒童|婴儿|嬰兒|幼儿|幼兒|萝莉|正太", rf"(?<![0-9])(?:{_YEARS})[岁歲]"],
    "Korean": [
        "어린이|아기|소녀|소년|미성년|초등학생|중학생|고등학생|꼬마|(?<![가-힣])(?:아이|유아)(?:들|가|는|를|의|와|도){0,2}(?![가-힣])",
        rf"(?<![0-9])(?:{_YEARS}) ?살",
    ],
}
LANGUAGES = sorted(["English", *ANYWHERE, *CJK])
# letters that the languages above do not use
OTHER_LETTERS = re.compile("[ąćęłńśźżčďěňřšťůžőűăâîșțşğıåøæðþ]")
SCRIPTS = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL")


def _whole_words(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(?:" + "|".join(patterns) + r")(?!\w)")


_ENGLISH = _whole_words(ENGLISH)
_ANYWHERE = _whole_words([pattern for patterns in ANYWHERE.values() for pattern in patterns])
_WITHIN = {language: _whole_words(patterns) for language, patterns in WITHIN.items()}
_CJK = re.compile("|".join(pattern for patterns in CJK.values() for pattern in patterns))
_GAPS = re.compile(r"[\s_\u200b-\u200d\u2010-\u2015]+")


def names_minor(text: str, around: Collection[str] = ()) -> bool:
    """Does a text name a minor? Small and capital letters, widths and accents make no difference.

    around   languages of the list it stands in: their words count where no English word stands beside them
    """
    whole = unicodedata.normalize("NFKC", text).casefold()
    plain = _GAPS.sub(" ", _without_accents(whole))
    if _ENGLISH.search(plain) or _ANYWHERE.search(plain) or _CJK.search(_GAPS.sub("", whole)) or _CJK.search(whole):
        return True
    own = {*_languages(whole), *(() if _words(whole) & SMALL_WORDS["English"] else around)}
    return any(_WITHIN[language].search(plain) for language in own)


def languages(texts: Iterable[str]) -> list[str]:
    """The languages, English and those without spaces aside, of at least two texts and one in ten."""
    found = [_languages(unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    return [name for name in WITHIN if (n := sum(name in one for one in found)) >= 2 and n >= len(found) / 10]


def foreign(text: str) -> bool:
    """Does a text seem to be in a language whose words are not looked for, by its script or its letters?"""
    letters = [letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalpha()]
    strange = sum(not unicodedata.name(letter, "").startswith(SCRIPTS) for letter in letters)
    return strange > 0.2 * max(len(letters), 1) or len(OTHER_LETTERS.findall("".join(letters))) > 1


def _without_accents(text: str) -> str:
    """The text without accents, but for the tilde that tells niño from Nino."""
    kept = text.replace("ñ", "\0")
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", kept) if not unicodedata.combining(letter))
    return plain.replace("\0", "ñ")


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text))


def _languages(text: str) -> list[str]:
    """Languages that a text seems to be written in, by its small words: two of them, or one where no English word stands beside it."""
    words = _words(text)
    enough = 1 if not words & SMALL_WORDS["English"] else 2
    return [language for language in WITHIN if len(words & SMALL_WORDS[language]) >= enough]
