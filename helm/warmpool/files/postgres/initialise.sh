# Makes the trial's PostgreSQL cluster on its first start. Under another name first: one that was
# interrupted must not leave half a cluster for the next.
set -eu
[ ! -d /data/cluster ] || exit 0
rm -rf /data/partial
initdb -D /data/partial --username=warmpool --pwfile=/etc/warmpool/postgres/password \
    --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C --no-instructions
echo 'host all all all scram-sha-256' >> /data/partial/pg_hba.conf
echo 'CREATE DATABASE warmpool' | postgres --single -D /data/partial postgres
mv /data/partial /data/cluster
