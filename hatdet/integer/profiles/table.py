"""All profiles by name: the files in this folder are the list, and what others add."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from hatdet.integer import profiles
from hatdet.integer.profile import Profile
from hatdet.utils.errors import UserError, did_you_mean


def _found() -> dict[str, Profile]:
    made: dict[str, Profile] = {}
    for module in pkgutil.iter_modules(profiles.__path__, f"{profiles.__name__}."):
        if module.name == __name__:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            own = inspect.isclass(value) and issubclass(value, Profile) and value.__module__ == module.name
            if own and not inspect.isabstract(value):
                assert value.name not in made, value.name
                made[value.name] = value()
    return made


PROFILES = _found()


def add_profile(profile: Profile) -> None:
    """Make a profile known that is not in this folder: a module that a config imports calls it.

    Raises:
        UserError: another one has its name.
    """
    known = PROFILES.setdefault(profile.name, profile)
    own, other = type(profile), type(known)
    if (own.__module__, own.__qualname__) != (other.__module__, other.__qualname__):
        raise UserError(f"an arithmetic {profile.name!r} is there already ({known.kernels}); give yours another name")
    PROFILES[profile.name] = profile


def profile_named(name: object) -> Profile:
    """The profile that configs, graphs and files call so.

    Raises:
        UserError: there is none.
    """
    if not isinstance(name, str) or name not in PROFILES:
        hint = did_you_mean(str(name), PROFILES) or ";"
        raise UserError(f"unknown arithmetic {name!r}{hint} there are {', '.join(PROFILES)}")
    return PROFILES[name]
