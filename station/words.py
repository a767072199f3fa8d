"""What the poll workers' page says, in English and French: its own texts, and why an act was refused.

A refusal of the station's carries a key (station.result.StationRefusal), one of the board its error's name, and what else can go wrong with a network or a
key file is known by its class. What none of these names is a fault of this machine, and is shown as the program says it.
"""

from __future__ import annotations

from collections.abc import Callable

from chain.contract import Refused
from chain.errors import ChainError, NodeUnreachable, RpcError, Undelivered
from chain.keys import KeyFileError
from protocol.election import MissingAttachment, MissingRecord
from protocol.errors import BallotboardError, Malformed
from protocol.paper import Contradiction
from station.result import StationRefusal

Text = tuple[str, str]
"""English and French."""

Speaker = Callable[[str], str]
"""A key of WORDS → the text in one language."""

WORDS: dict[str, Text] = {
    "title": ("Polling station", "Bureau de vote"),
    "open": ("Open the station", "Ouvrir le bureau"),
    "opened": ("The station is open.", "Le bureau est ouvert."),
    "card": ("Roll index, or the card's public code", "Numéro de liste, ou le code public de la carte"),
    "never": ("Never ask for the covered code.", "Ne jamais demander le code caché."),
    "look-up": ("Look up", "Vérifier"),
    "check-in": ("Check in and hand out a paper", "Émarger et remettre un bulletin"),
    "checked-in": ("Checked in. Hand out one paper.", "Émargé. Remettre un bulletin."),
    "replace": ("Spoiled paper replaced", "Bulletin abîmé remplacé"),
    "replaced": ("One spoiled paper replaced.", "Un bulletin abîmé remplacé."),
    "close": ("Close the station", "Clore le bureau"),
    "sure": ("Yes, the last voter has left", "Oui, le dernier électeur est parti"),
    "closed": ("The station is closed. Count.", "Le bureau est clos. Dépouiller."),
    "count": ("Count", "Dépouillement"),
    "by": ("Who counted", "Qui a compté"),
    "reason": ("Reason, if figures differ and stay so", "Motif, si des chiffres diffèrent toujours"),
    "two": ("Two people count and enter all figures, each without seeing the other's.",
            "Deux personnes comptent et saisissent tous les chiffres, chacune sans voir ceux de l'autre."),
    "enter": ("Enter this count", "Enregistrer ce décompte"),
    "first": ("First count noted. Now somebody else counts.", "Premier décompte noté. Une autre personne compte maintenant."),
    "differs": ("The counts differ. Both count again:", "Les décomptes diffèrent. Recompter tous deux :"),
    "agreed": ("Both counts agree. Two officers sign.", "Les deux décomptes concordent. Deux membres signent."),
    "issued": ("Papers issued", "Bulletins remis"),
    "spoiled": ("Papers spoiled and not replaced", "Bulletins abîmés et non remplacés"),
    "unreturned": ("Papers not returned", "Bulletins non rendus"),
    "in_box": ("Papers in the box", "Bulletins dans l'urne"),
    "blank": ("(blank)", "(blancs)"), "invalid": ("(invalid)", "(nuls)"),
    "sign": ("Sign what waits", "Signer ce qui attend"),
    "signed": ("Signed.", "Signé."),
    "key": ("Your key file", "Votre fichier de clé"),
    "passphrase": ("Your passphrase", "Votre phrase de passe"),
    "sync": ("Send and learn (network)", "Envoyer et recevoir (réseau)"),
    "synced": ("In step with the public record.", "À jour avec le registre public."),
    "offline": ("There is no network now; everything else works without.", "Pas de réseau pour l'instant ; tout le reste fonctionne sans."),
    "refused": ("Refused:", "Refusé :"),
    "partly": ("Sent what the public record takes, but not all check-ins:", "Envoyé ce que le registre public accepte, mais pas tous les émargements :"),
    "relayed": ("Leave both empty if a relayer is to send it.", "Laisser les deux vides si un relais doit envoyer."),
    "check-ins": ("Checked in", "Émargements"), "papers": ("Papers handed out", "Bulletins remis"),
    "left": ("Papers left", "Bulletins restants"), "waiting": ("Waiting for signatures", "En attente de signatures"),
    "practice": ("PRACTICE", "EXERCICE"),
    "may-vote": ("may vote on paper.", "peut voter sur papier."),
    "replaces-online": ("has voted online: the paper ballot will replace it.", "a voté en ligne : le bulletin papier remplacera ce vote."),
    "online-stands": ("has voted online, and that ballot stands: no paper.", "a voté en ligne, et ce vote est maintenu : pas de bulletin."),
    "checked-in-here": ("was checked in here already.", "a déjà émargé ici."),
    "checked-in-elsewhere": ("was checked in at another station already.", "a déjà émargé dans un autre bureau."),
    "not-here": ("may not vote at this station.", "ne peut pas voter dans ce bureau."),
    "other": ("Français", "English"),
    "link": ("This page is opened by the link that `ballotboard station serve` printed.",
             "Cette page s'ouvre par le lien que `ballotboard station serve` a affiché."),
    "nothing": ("There is nothing here.", "Il n'y a rien ici."),
    "form": ("A form has a length, of at most 100,000 bytes.", "Un formulaire a une longueur, de 100 000 octets au plus."),
}  # fmt: skip
"""The page's own texts, English and French."""

REFUSALS: dict[str, Text] = {
    "opens-later": ("The poll opens at {start}; it is {now} now.", "Le scrutin ouvre à {start} ; il est {now}."),
    "count-later": ("Counting begins at {start}; it is {now} now.", "Le dépouillement commence à {start} ; il est {now}."),
    "no-roll": ("The electoral roll is not here yet: connect once, and press “Send and learn”.",
                "La liste électorale n'est pas encore ici : se connecter une fois, et presser « Envoyer et recevoir »."),
    "other-board": ("This network shows another election than this folder's.", "Ce réseau montre une autre élection que celle de ce dossier."),
    "covered": ("This is the covered code, which nobody may see. Use the public code or the number beside it, and keep nothing of this one.",
                "C'est le code caché, que personne ne doit voir. Utiliser le code public ou le numéro à côté, et ne rien garder de celui-ci."),
    "no-index": ("“{text}” is no roll index. Scan the card's public code, or type the number beside it.",
                 "« {text} » n'est pas un numéro de liste. Lire le code public de la carte, ou saisir le numéro à côté."),
    "other-card": ("This card is of another election.", "Cette carte est d'une autre élection."),
    "not-open": ("The station is not open yet.", "Le bureau n'est pas encore ouvert."),
    "is-closed": ("The station is closed.", "Le bureau est clos."),
    "online-stands": ("{index} has voted online, and that ballot stands. Nobody was checked in.",
                      "{index} a voté en ligne, et ce vote est maintenu. Personne n'a été émargé."),
    "checked-in-here": ("{index} was checked in here already. Nobody was checked in now.", "{index} a déjà émargé ici. Personne n'a été émargé maintenant."),
    "checked-in-elsewhere": ("{index} was checked in at another station already. Nobody was checked in now.",
                             "{index} a déjà émargé dans un autre bureau. Personne n'a été émargé maintenant."),
    "not-here": ("{index} may not vote at this station. Nobody was checked in.", "{index} ne peut pas voter dans ce bureau. Personne n'a été émargé."),
    "twice": ("{index} is there twice. Nobody was checked in.", "{index} y est deux fois. Personne n'a été émargé."),
    "no-papers-now": ("Papers are handed out only while the station is open.", "Les bulletins ne sont remis que pendant que le bureau est ouvert."),
    "no-number": ("At least one paper is handed out.", "Au moins un bulletin est remis."),
    "check-in-first": ("{checked_in} voters are checked in, and {issued} papers were handed out. Check the voter in first.",
                       "{checked_in} électeurs ont émargé, et {issued} bulletins ont été remis. Émarger d'abord l'électeur."),
    "nothing-to-replace": ("{issued} papers were handed out, so no more than that can be replaced.",
                           "{issued} bulletins ont été remis : on ne peut pas en remplacer davantage."),
    "no-papers-left": ("{printed} papers were printed, and all of them were handed out. Print more, or count the stack again.",
                       "{printed} bulletins ont été imprimés, et tous ont été remis. En imprimer d'autres, ou recompter la pile."),
    "not-sure": ("Tick the box first: has the last voter left?", "Cocher d'abord la case : le dernier électeur est-il parti ?"),
    "close-first": ("Close the station first.", "Clore d'abord le bureau."),
    "signed-already": ("An officer has signed the result already. It can only be amended now, with the command line.",
                       "Un membre a déjà signé le résultat. Il ne peut plus qu'être rectifié, en ligne de commande."),
    "not-the-check-ins": ("{issued} papers were issued, and {checked_in} voters checked in. Count again, or give a reason.",
                          "{issued} bulletins ont été remis, et {checked_in} électeurs ont émargé. Recompter, ou donner un motif."),
    "not-the-papers": ("{issued} papers were issued, and {noted} were noted as handed out. Count again, or give a reason.",
                       "{issued} bulletins sont déclarés remis, et {noted} ont été notés. Recompter, ou donner un motif."),
    "nobody-counted": ("Say who counted.", "Dire qui a compté."),
    "no-figure": ("The figure “{name}” is missing or is no number. Write 0 where there is none.",
                  "Le chiffre « {name} » manque ou n'est pas un nombre. Écrire 0 s'il n'y en a pas."),
    "no-option": ("There is no option “{name}”.", "Il n'y a pas d'option « {name} »."),
    "no-balance": ("The figures do not add up. Nothing was recorded; count again.", "Les chiffres ne concordent pas. Rien n'a été enregistré ; recompter."),
    "no-officer": ("The account {address} is not an officer's of this station.", "Le compte {address} n'est pas celui d'un membre de ce bureau."),
    "no-sender": ("No relayer is known here. Name the key file of an account that can pay.",
                  "Aucun relais n'est connu ici. Indiquer le fichier de clé d'un compte qui peut payer."),
    "no-page": ("There is no page {path}.", "Il n'y a pas de page {path}."),
}  # fmt: skip
"""By the key of a StationRefusal."""

CONTRADICTIONS: dict[str, Text] = {
    "papers": ("Issued {issued} is not in the box {counted} + spoiled {spoiled} + not returned {unreturned}.",
               "Remis {issued} n'est pas dans l'urne {counted} + abîmés {spoiled} + non rendus {unreturned}."),
    "sum": ("{contest}: all counts together are {found}, not {counted}.", "{contest} : tous les chiffres ensemble font {found}, et non {counted}."),
    "marks": ("{contest}: an option has more marks than there are valid papers.",
              "{contest} : une option a plus de marques qu'il n'y a de bulletins valables."),
    "limit": ("{contest}: there are more marks than {limit} on each valid paper.", "{contest} : il y a plus de {limit} marques par bulletin valable."),
}  # fmt: skip
"""By the key of a protocol.paper.Contradiction: what goes behind `no-balance`."""

BOARD: dict[str, Text] = {
    "NotInPhase": ("The poll is in another phase than this needs.", "Le scrutin est dans une autre phase que celle qu'il faut."),
    "TooEarly": ("It is too early for this by the public record's time.", "Il est trop tôt pour cela selon l'heure du registre public."),
    "TooLate": ("It is too late for this by the public record's time.", "Il est trop tard pour cela selon l'heure du registre public."),
    "WrongRole": ("The public record does not know these officers for this station.", "Le registre public ne connaît pas ces membres pour ce bureau."),
    "NotDirect": ("This account may not send it.", "Ce compte ne peut pas l'envoyer."),
    "WrongSequence": ("Something else was sent from this account meanwhile; send again.", "Autre chose a été envoyé de ce compte entre-temps ; renvoyer."),
    "WrongNumber": ("The public record expects another batch or revision of this station first. Was this folder copied?",
                    "Le registre public attend d'abord un autre lot ou une autre version de ce bureau. Ce dossier a-t-il été copié ?"),
    "BadSignature": ("A signature does not hold. Both officers sign again.", "Une signature n'est pas valable. Les deux membres signent à nouveau."),
    "BadInclusion": ("This station is not in the election's public list.", "Ce bureau n'est pas dans la liste publique de l'élection."),
    "BadBody": ("The public record does not take a record of this form.", "Le registre public n'accepte pas un document de cette forme."),
    "BadSetup": ("The election's settings contradict each other.", "Les réglages de l'élection se contredisent."),
    "UnknownHash": ("The result's hash is not on the public record yet.", "L'empreinte du résultat n'est pas encore dans le registre public."),
    "UnrevealedRevision": ("The present result must be revealed before it is amended.", "Le résultat actuel doit être révélé avant d'être rectifié."),
    "AlreadyDone": ("This is on the public record already.", "C'est déjà dans le registre public."),
}  # fmt: skip
"""By the name of the board's error (contracts/IBulletinBoard.sol)."""

KINDS: dict[type[BallotboardError], Text] = {
    NodeUnreachable: ("The network does not answer. Nothing is lost; try again later.", "Le réseau ne répond pas. Rien n'est perdu ; réessayer plus tard."),
    Undelivered: ("No relayer takes it now. Nothing is lost; try again later, or send it with a key file of an account that can pay.",
                  "Aucun relais ne le prend maintenant. Rien n'est perdu ; réessayer plus tard, ou envoyer avec le fichier de clé d'un compte qui peut payer."),
    RpcError: ("The node does not take it. The account may have no money: send it with another key file.",
               "Le nœud ne le prend pas. Le compte n'a peut-être pas d'argent : envoyer avec un autre fichier de clé."),
    ChainError: ("The node or relayer cannot do this, or contradicts itself. Nothing is lost; use another one.",
                 "Le nœud ou le relais ne peut pas le faire, ou se contredit. Rien n'est perdu ; en utiliser un autre."),
    KeyFileError: ("The key file does not open. Check its name and the passphrase.", "Le fichier de clé ne s'ouvre pas. Vérifier son nom et la phrase de passe."),
    **dict.fromkeys((Malformed, MissingAttachment, MissingRecord),
                    ("The public record cannot be read here yet. Nothing is lost; try again later.",
                     "Le registre public ne peut pas encore être lu ici. Rien n'est perdu ; réessayer plus tard.")),
}  # fmt: skip
"""By the class of an error, the nearest one."""

PROGRAM: Text = ("The program says: {error}", "Le programme dit (en anglais) : {error}")
"""What is left: this machine's disk and files."""


def speaker(language: int) -> Speaker:
    return lambda word: WORDS[word][language]


def both(word: str) -> str:
    """A text in both languages, for who has no page yet."""
    return "\n".join(WORDS[word])


def refusal(error: BallotboardError, language: int) -> str:
    """Why an act was refused, as plain text; `language` 0 is English, 1 French."""
    if isinstance(error, StationRefusal) and error.key in REFUSALS:
        wrong: list[Contradiction] = error.values.get("wrong", [])
        parts = [REFUSALS[error.key], *(CONTRADICTIONS[part.key] for part in wrong if part.key)]
        values = [error.values, *(part.values for part in wrong if part.key)]
        return " ".join(text[language].format(**found) for text, found in zip(parts, values, strict=True))
    if isinstance(error, Refused):
        return BOARD[error.name][language]
    kind = next((kind for kind in type(error).__mro__ if kind in KINDS), None)
    return KINDS[kind][language] if kind else PROGRAM[language].format(error=error)  # type: ignore[index]
