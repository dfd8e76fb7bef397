"""Functions that rules may call on addresses, networks, URLs, formats; and reserved words."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conformance.conftest import install
from tests.conformance.target import Api, Json, plain_definition

GROUP = "cel.taskctl.test"
ADDRESS, WEB = "10.0.0.1", "https://example.com:80/a%20b?b=c"
# Rule, value, whether the value is fine.
RULES = [
    ("isIP(self)", ADDRESS, True),
    ("isIP(self)", "10.0.0.256", False),
    ("isIP(self)", "010.0.0.1", False),
    ("isIP(self)", "::1", True),
    ("isIP(self)", "::ffff:1.2.3.4", False),
    ("isIP(self)", "fe80::1%eth0", False),
    ("isIP(self)", "10.0.0.0/8", False),
    ("ip(self).family() == 4", ADDRESS, True),
    ("ip(self).family() == 6", "2001:db8::1", True),
    ("ip(self).isLoopback()", "127.0.0.1", True),
    ("ip(self).isLoopback()", ADDRESS, False),
    ("ip(self).isUnspecified()", "0.0.0.0", True),
    ("ip(self).isGlobalUnicast()", ADDRESS, True),
    ("ip(self).isGlobalUnicast()", "255.255.255.255", False),
    ("ip(self).isLinkLocalUnicast()", "169.254.1.1", True),
    ("ip(self).isLinkLocalMulticast()", "224.0.0.1", True),
    ("ip(self).isLinkLocalMulticast()", "239.0.0.1", False),
    ("ip(self) == ip('2001:db8::1')", "2001:DB8:0:0::1", True),
    ("string(ip(self)) == '10.0.0.1'", ADDRESS, True),
    ("ip.isCanonical(self)", "2001:db8::abcd", True),
    ("ip.isCanonical(self)", "2001:DB8::ABCD", False),
    ("ip(self).family() == 4", "nonsense", False),
    ("isCIDR(self)", "10.0.0.0/8", True),
    ("isCIDR(self)", "10.0.0.1/8", True),
    ("isCIDR(self)", "10.0.0.0/33", False),
    ("isCIDR(self)", "10.0.0.0/08", False),
    ("isCIDR(self)", ADDRESS, False),
    ("cidr(self).containsIP('10.1.2.3')", "10.0.0.0/8", True),
    ("cidr(self).containsIP(ip('11.1.2.3'))", "10.0.0.0/8", False),
    ("cidr(self).containsCIDR('10.1.0.0/16')", "10.0.0.0/8", True),
    ("cidr(self).containsCIDR(cidr('10.0.0.0/7'))", "10.0.0.0/8", False),
    ("cidr(self).ip().family() == 4", "10.0.0.0/8", True),
    ("cidr(self).ip() == ip('10.0.0.1')", "10.0.0.1/8", True),
    ("cidr(self).masked() == cidr('10.0.0.0/8')", "10.0.0.1/8", True),
    ("cidr(self).prefixLength() == 8", "10.0.0.0/8", True),
    ("isURL(self)", WEB, True),
    ("isURL(self)", "/absolute", True),
    ("isURL(self)", "../relative", False),
    ("url(self).getScheme() == 'https'", WEB, True),
    ("url(self).getHost() == 'example.com:80'", WEB, True),
    ("url(self).getHostname() == 'example.com'", WEB, True),
    ("url(self).getHostname() == '::1'", "http://[::1]:90/", True),
    ("url(self).getPort() == '80'", WEB, True),
    ("url(self).getPort() == ''", "https://example.com", True),
    ("url(self).getEscapedPath() == '/a%20b'", WEB, True),
    ("url(self).getQuery() == {'b': ['c']}", WEB, True),
    ("!format.dns1123Label().validate(self).hasValue()", "a-b", True),
    ("!format.dns1123Label().validate(self).hasValue()", "A_b", False),
    ("!format.dns1123Subdomain().validate(self).hasValue()", "a.b", True),
    ("!format.dns1035Label().validate(self).hasValue()", "1a", False),
    ("!format.dns1123LabelPrefix().validate(self).hasValue()", "a-", True),
    ("!format.qualifiedName().validate(self).hasValue()", "a.b/c", True),
    ("!format.qualifiedName().validate(self).hasValue()", "a/b/c", False),
    ("!format.labelValue().validate(self).hasValue()", "-a", False),
    ("!format.uri().validate(self).hasValue()", WEB, True),
    ("!format.uuid().validate(self).hasValue()", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", True),
    ("!format.byte().validate(self).hasValue()", "aGk=", True),
    ("!format.date().validate(self).hasValue()", "2020-13-01", False),
    ("!format.datetime().validate(self).hasValue()", "2020-01-01T00:00:00Z", True),
    ("format.named(self).hasValue()", "dns1123Label", True),
    ("format.named(self).hasValue()", "nothing", False),
    ("format.named('uuid').value().validate(self).value().size() == 1", "x", True),
    ("quantity(self).isGreaterThan(quantity('1Mi'))", "1Gi", True),
    ("quantity(self) == quantity('1000m')", "1", True),
    ("isQuantity(self)", "1K", False),
]
RESERVED = (
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
    "package", "namespace", "return", "var", "void", "while",
)  # fmt: skip


def definition(properties: Json, rules: Sequence[str] = ()) -> Json:
    return plain_definition(GROUP, "Rule", properties, rules)


async def causes(api: Api, crd: Json, spec: Json) -> set[str]:
    """Return the fields that an object is refused for."""
    await install(api, crd, f"/apis/{GROUP}/v1/rules")
    body = {
        "apiVersion": f"{GROUP}/v1", "kind": "Rule", "metadata": {"name": "r"}, "spec": spec
    }  # fmt: skip
    path = api.path(f"/apis/{GROUP}/v1", "rules")
    for _ in range(50):  # a real server goes on with the old schema for a moment
        reply = await api.create(path, body, dryRun="All", fieldValidation="Strict")
        if reply.status != 400:
            break
    if reply.status == 201:
        return set()
    return {one["field"] for one in reply.refused(422, "Invalid")["details"]["causes"]}


async def test_every_function(api: Api) -> None:
    properties = {
        f"f{index}": {
            "type": "string",
            "maxLength": 50,
            "x-kubernetes-validations": [{"rule": rule}],
        }
        for index, (rule, _, _) in enumerate(RULES)
    }
    spec = {f"f{index}": value for index, (_, value, _) in enumerate(RULES)}
    found = await causes(api, definition(properties), spec)
    wrong = [
        rule for index, rule in enumerate(RULES) if (f"spec.f{index}" not in found) is not rule[2]
    ]
    assert wrong == []


async def test_reserved_words_as_names_of_fields(api: Api) -> None:
    properties = {word: {"type": "string", "maxLength": 5} for word in RESERVED}
    rules = [f"self.{word} == 'a' && self.__{word}__ == 'a'" for word in RESERVED]
    crd = definition({**properties, "in": {"type": "string"}}, [*rules, "self.__in__ == 'a'"])
    assert await causes(api, crd, dict.fromkeys((*RESERVED, "in"), "a")) == set()
    refused = await causes(api, crd, dict.fromkeys((*RESERVED, "in"), "b"))
    assert refused == {"spec"}


async def test_words_that_no_rule_can_say(api: Api) -> None:
    crd = definition({"in": {"type": "string"}}, ["self.in == 'a'"])
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (await api.create(path, crd, dryRun="All")).refused(422, "Invalid")
