"""What stands before Google's services, as far as a client sees it: tokens, TLS, rights.

Behind it is the emulator, which knows none of these. Google's own IAM isn't here: which permission
a procedure takes, and which permissions a role has, stands here as their documentation lists it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ROLES = {
    "roles/pubsub.publisher": {"topics.publish"},
    "roles/pubsub.subscriber": {"subscriptions.consume", "topics.attachSubscription"},
    "roles/pubsub.viewer": {"topics.get", "subscriptions.get"},
    "roles/pubsub.editor": {
        "topics.publish", "topics.get", "topics.create", "topics.attachSubscription",
        "subscriptions.consume", "subscriptions.get", "subscriptions.create",
    },
}  # fmt: skip
_NEEDS = {
    "Publish": "topics.publish",
    "GetTopic": "topics.get",
    "CreateTopic": "topics.create",
    "GetSubscription": "subscriptions.get",
    "CreateSubscription": "subscriptions.create",
    "Pull": "subscriptions.consume",
    "Acknowledge": "subscriptions.consume",
    "ModifyAckDeadline": "subscriptions.consume",
}
Rights = Mapping[str, Collection[str]]
"""Role → the topics and subscriptions it is given on, `topics/T` and `subscriptions/S`; on a
project it is `*`."""
EVERYTHING: Rights = {"roles/pubsub.editor": ["*"]}


class Gateway:
    """A gRPC server on a port of its own, that hands on what is allowed."""

    def __init__(
        self,
        emulator: str,
        rights: Callable[[str], Rights | None],
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """`rights`: of whoever shows this bearer token; None for one that is not known. `tls`:
        certificate and key."""
        self.tokens: set[str] = set()
        """All that were shown."""
        self._rights = rights
        self._behind = grpc.insecure_channel(emulator)
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers([_Door(self._answer)])
        if tls is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            certificate, key = (path.read_bytes() for path in tls)
            credentials = grpc.ssl_server_credentials([(key, certificate)])
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        self.address = f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.stop(0).wait()
        self._behind.close()

    def _answer(self, method: str, body: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        self.tokens.add(token)
        rights = self._rights(token)
        if rights is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "invalid authentication credentials")
            raise AssertionError  # it raises
        # The header says which topic or subscription it is about, for Google's own routing, too.
        (name,) = next(iter(parse_qs(str(metadata["x-goog-request-params"])).values()))
        procedure = method.rpartition("/")[2]
        needs, project = _NEEDS[procedure], procedure.startswith("Create")
        if not _allows(rights, needs, None if project else name.split("/", 2)[2]):
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"User not authorized to perform this action (pubsub.{needs}).",
            )
        call = self._behind.unary_unary(method)
        try:
            answer: bytes = call(body, timeout=context.time_remaining() or 60)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return answer


class _Door(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, answer: Callable[[str, bytes, Any], bytes]) -> None:
        self._answer = answer

    def service(self, details: Any) -> Any:
        method = details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._answer(method, body, context)
        )


def _allows(rights: Rights, permission: str, resource: str | None) -> bool:
    """`resource`: None for the project itself."""
    return any(
        permission in ROLES[role] and ("*" in given or resource in given)
        for role, given in rights.items()
    )


class Tokens:
    """Google's token servers: of service accounts, of workload identity federation, and the
    metadata server of a machine. Each gives a token of its own to who has the right secret."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._identity = "the workload's own token"
        self.asked: list[str] = []
        """Which tokens were given."""
        self._folder = folder
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tokens._serve(self, "")

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                tokens._serve(self, self.rfile.read(size).decode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def service_account(self, key: rsa.RSAPrivateKey | None = None) -> Path:
        """The file of a service account, as Google gives it; with another key, a forged one."""
        pem = (key or self._key).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return self._written("account", {
            "type": "service_account", "project_id": "tests", "private_key_id": "1",
            "private_key": pem.decode(), "client_email": "minion@tests.iam.gserviceaccount.com",
            "client_id": "1", "token_uri": f"http://{self.address}/token",
        })  # fmt: skip

    def workload_identity(self) -> Path:
        """The file of a workload identity federation: where the workload finds a token of its
        own, and who exchanges it."""
        own = self._folder / "identity"
        own.write_text(self._identity)
        pool = (
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
        )
        return self._written("workload", {
            "type": "external_account", "audience": f"//iam.googleapis.com/{pool}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"http://{self.address}/sts", "credential_source": {"file": str(own)},
        })  # fmt: skip

    def _written(self, name: str, account: object) -> Path:
        path = self._folder / f"{name}-{len(list(self._folder.iterdir()))}.json"
        path.write_text(json.dumps(account))
        return path

    def _serve(self, request: BaseHTTPRequestHandler, body: str) -> None:
        token = self._token(request.path, {k: v[0] for k, v in parse_qs(body).items()})
        if token:
            self.asked.append(token)
        answer: dict[str, object] = {"error": "invalid_grant", "error_description": "no"}
        if token is not None:
            answer = {
                "access_token": token, "expires_in": 3600, "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "email": "minion@tests", "scopes": [], "aliases": ["default"],
            }  # fmt: skip
        request.send_response(200 if token is not None else 400)
        request.send_header("Content-Type", "application/json")
        request.send_header("Metadata-Flavor", "Google")
        request.end_headers()
        plain = request.path.endswith("/project/project-id")
        request.wfile.write(b"tests" if plain else json.dumps(answer).encode())

    def _token(self, path: str, form: Mapping[str, str]) -> str | None:
        """None for who has not got the secret; the empty one for other questions."""
        if path == "/token":
            return "of-the-account" if self._is_signed(form.get("assertion", "")) else None
        if path == "/sts":
            return "of-the-workload" if form.get("subject_token") == self._identity else None
        if path.partition("?")[0].endswith("/token"):
            return "of-the-machine"
        return ""

    def _is_signed(self, assertion: str) -> bool:
        """Whether this JWT is one of the service account, for our scope."""
        signed, _, signature = assertion.rpartition(".")
        try:
            self._key.public_key().verify(
                _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return False
        claims = json.loads(_decoded(signed.partition(".")[2]))
        return str(claims["scope"]) == "https://www.googleapis.com/auth/pubsub"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
