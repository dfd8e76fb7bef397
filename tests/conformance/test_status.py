"""The status subresource, and defaults on it."""

from __future__ import annotations

from tests.conformance.target import GROUP, Api, widget


async def test_status_is_dropped_on_create_and_its_default_shows(api: Api) -> None:
    body = {**widget("a"), "status": {"state": "Done", "host": "h"}}
    made = (await api.create(api.widgets(), body)).ok()
    assert made["status"] == {"state": "New"}
    assert (await api.get(api.widgets("a"))).ok()["status"] == {"state": "New"}


async def test_defaults_of_the_spec(api: Api) -> None:
    assert (await api.create(api.widgets(), widget("a"))).ok()["spec"]["color"] == "red"


async def test_main_resource_cannot_write_status(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    change = {"spec": {"size": 2}, "status": {"host": "h"}}
    made = (await api.patch(api.widgets("a"), change)).ok()
    assert made["spec"]["size"] == 2
    assert made["status"] == {"state": "New"}


async def test_status_cannot_write_anything_else(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    change = {
        "metadata": {"labels": {"x": "y"}},
        "spec": {"size": 50},
        "status": {"host": "h", "state": "Busy"},
    }
    made = (await api.patch(api.widgets("a", "status"), change)).ok()
    assert made["status"] == {"state": "Busy", "host": "h"}
    assert made["spec"]["size"] == 1
    assert "labels" not in made["metadata"]
    assert made["metadata"]["generation"] == 1


async def test_replacing_the_status(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    made["spec"]["size"] = 50
    made["status"] = {"host": "h"}
    after = (await api.put(api.widgets("a", "status"), made)).ok()
    assert after["status"] == {"state": "New", "host": "h"}
    assert after["spec"]["size"] == 1


async def test_getting_the_status(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    assert (await api.get(api.widgets("a", "status"))).ok()["status"] == {"state": "New"}


async def test_invalid_status(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.patch(api.widgets("a", "status"), {"status": {"state": "Lost"}})
    body = reply.refused(422, "Invalid")
    assert body["message"] == (
        f'Widget.{GROUP} "a" is invalid: [status.state: Unsupported value: "Lost": supported '
        'values: "New", "Busy", "Done", <nil>: Invalid value: null: some validation rules were '
        "not checked because the object was invalid; correct the existing errors to complete "
        "validation]"
    )


async def test_guarded_status_write(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    version = made["metadata"]["resourceVersion"]
    path = api.widgets("a", "status")
    change = {"metadata": {"resourceVersion": version}, "status": {"host": "h"}}
    (await api.patch(path, change)).ok()
    change["status"] = {"host": "i"}
    body = (await api.patch(path, change)).refused(409, "Conflict")
    assert body["message"] == (
        f'Operation cannot be fulfilled on widgets.{GROUP} "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_null_takes_a_status_field_away(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    path = api.widgets("a", "status")
    (await api.patch(path, {"status": {"host": "h", "count": 3}})).ok()
    after = (await api.patch(path, {"status": {"host": None, "state": None}})).ok()
    assert after["status"] == {"state": "New", "count": 3}
